//! The node's configuration: defaults < `kong.conf` < `KONG_*` < `TOLLGATE_*`.

mod checks;
mod documentation;
mod property;
mod values;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use rustix::fs::{Access, access};
use tollgate_gateway::trace::TraceSettings;
use tollgate_http::server::{Limits, Listener};
use tollgate_lua::{Policy, Untrusted};
use tollgate_telemetry::Level;

pub use documentation::documentation;
use property::PROPERTIES;
use values::{parse_listener, size, time, vault_variable, without_comment};

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfError(pub Vec<String>);

/// Values by property, with where each came from. Secrets are among them: not `Debug`.
#[derive(Clone, Default)]
pub struct Configuration {
    values: BTreeMap<String, (String, String)>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Names nobody knows, to warn about.
    pub warnings: Vec<String>,
}

/// Workers are threads: more than any machine has cores are a slip of the pen.
const MOST_WORKERS: usize = 1024;

/// Where configuration files are looked for.
const FILES: [&str; 3] = ["/etc/tollgate/tollgate.conf", "/etc/kong/kong.conf", "/etc/kong.conf"];

impl Configuration {
    /// Reads the file (the given one, else the first of the usual places that is there) and the environment.
    ///
    /// # Errors
    /// A file that cannot be read, lines that are no `name = value`.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfError> {
        let mut configuration = Self::default();
        let file = file
            .map(Path::to_path_buf)
            .or_else(|| FILES.iter().map(PathBuf::from).find(|path| path.exists()));
        if let Some(file) = file {
            let text = std::fs::read_to_string(&file)
                .map_err(|error| ConfError(vec![format!("{}: {error}", file.display())]))?;
            configuration.read_file(&file.display().to_string(), &text)?;
            configuration.file = Some(file);
        }
        let mut variables: Vec<(String, String)> = environment.collect();
        let outside: BTreeMap<String, String> = variables.iter().cloned().collect();
        // TOLLGATE_ sorts behind KONG_, and so wins.
        variables.sort();
        for (name, value) in variables {
            let property = ["KONG_", "TOLLGATE_"].iter().find_map(|prefix| name.strip_prefix(prefix));
            if let Some(property) = property {
                configuration.set(&property.to_ascii_lowercase(), &value, &name);
            }
        }
        configuration.dereference(&outside)?;
        Ok(configuration)
    }

    /// Puts the values of variables in place of references to them.
    fn dereference(&mut self, variables: &BTreeMap<String, String>) -> Result<(), ConfError> {
        let prefix = self.get("vault_env_prefix").unwrap_or_default().to_owned();
        let mut errors = Vec::new();
        for (name, (value, origin)) in &mut self.values {
            let Some((variable, key)) = vault_variable(value, &prefix) else { continue };
            let found = variables.get(&variable).cloned().and_then(|text| match &key {
                None => Some(text),
                Some(key) => {
                    let object: serde_json::Value = serde_json::from_str(&text).ok()?;
                    object.get(key)?.as_str().map(str::to_owned)
                }
            });
            match found {
                Some(found) => *value = found,
                None => {
                    errors.push(format!("{name} ({origin}): the environment has no {variable} for '{value}'"))
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(ConfError(errors)) }
    }

    fn read_file(&mut self, file: &str, text: &str) -> Result<(), ConfError> {
        let mut errors = Vec::new();
        // Some editors put a byte order mark in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.lines().enumerate() {
            let line = without_comment(line);
            if line.trim().is_empty() {
                continue;
            }
            match line.split_once('=') {
                Some((name, value)) if !name.trim().is_empty() => {
                    self.set(name.trim(), value.trim(), &format!("{file}:{}", number + 1));
                }
                _ => errors.push(format!("{file}:{}: expected 'name = value'", number + 1)),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(ConfError(errors)) }
    }

    fn set(&mut self, name: &str, value: &str, origin: &str) {
        if !property::is_known(name) {
            let near =
                property::nearest(name).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
            self.warnings.push(format!("{origin}: the property '{name}' is not known{near}"));
            return;
        }
        self.values.insert(name.to_owned(), (value.to_owned(), origin.to_owned()));
    }

    /// A property's value; `None` where it is unset (or `NONE`).
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = match self.values.get(name) {
            Some((value, _)) => value.as_str(),
            None => property::default(name)?,
        };
        let value = value.trim();
        (!value.is_empty() && value != "NONE").then_some(value)
    }

    /// Of a property's two names the one that is set; the new one where both or neither is.
    fn newer(&self, new: &'static str, old: &'static str) -> &'static str {
        if self.values.contains_key(old) && !self.values.contains_key(new) { old } else { new }
    }

    /// Where a property was set, for messages.
    fn origin(&self, name: &str) -> String {
        self.values.get(name).map_or_else(|| name.to_owned(), |(_, origin)| format!("{name} ({origin})"))
    }

    /// A list, separated by commas.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.get(name)
            .unwrap_or_default()
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect()
    }

    fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
        errors: &mut Vec<String>,
    ) -> Option<T> {
        let text = self.get(name)?;
        let value = parse(text);
        if value.is_none() {
            errors.push(format!("{}: expected {expected}, found '{text}'", self.origin(name)));
        }
        value
    }

    /// Whether a property is on.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("on" | "true" | "yes" | "1"))
    }

    /// Checks every value and gives the node's settings their types.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn check(&self) -> Result<Node, ConfError> {
        let mut errors = Vec::new();
        let number = |text: &str| text.parse::<u64>().ok();
        let mut limits = Limits::default();
        if let Some(size) = self.parsed("client_max_body_size", "a size such as 10m", size, &mut errors) {
            limits.body = size;
        }
        if let Some(size) =
            self.parsed("nginx_http_client_max_body_size", "a size such as 10m", size, &mut errors)
        {
            limits.body = size;
        }
        if let Some(count) = self.parsed("nginx_http_keepalive_requests", "a number", number, &mut errors) {
            limits.requests = count;
        }
        let buffers = |text: &str| {
            let (count, bytes) = text.split_once(' ')?;
            let buffers = (count.trim().parse::<usize>().ok()?, size(bytes.trim())? as usize);
            (buffers.0 > 0 && buffers.1 > 0).then_some(buffers)
        };
        for name in ["nginx_http_large_client_header_buffers", "nginx_proxy_large_client_header_buffers"] {
            if let Some((count, bytes)) =
                self.parsed(name, "a number and a size such as 4 8k", buffers, &mut errors)
            {
                (limits.head_line, limits.head_total) = (bytes, bytes.saturating_mul(count));
            }
        }
        for (name, target) in [
            ("nginx_http_keepalive_timeout", &mut limits.idle_timeout),
            ("nginx_http_client_header_timeout", &mut limits.head_timeout),
            ("nginx_http_client_body_timeout", &mut limits.body_timeout),
            ("nginx_http_send_timeout", &mut limits.send_timeout),
        ] {
            if let Some(time) = self.parsed(name, "a time such as 60s", time, &mut errors) {
                *target = time;
            }
        }
        let mut listen = |name: &str| -> Vec<Listener> {
            let mut listeners = Vec::new();
            for entry in self.list(name) {
                match parse_listener(&entry) {
                    Ok(listener) => listeners.extend(listener),
                    Err(message) => errors.push(format!("{}: {message}", self.origin(name))),
                }
            }
            listeners
        };
        let (proxy, admin, status) =
            (listen("proxy_listen"), listen("admin_listen"), listen("status_listen"));
        let count = self.get("nginx_main_worker_processes").or(self.get("nginx_worker_processes"));
        let workers = match count {
            None | Some("auto") => std::thread::available_parallelism().map_or(1, usize::from),
            Some(text) => {
                text.parse().ok().filter(|count| (1..=MOST_WORKERS).contains(count)).unwrap_or_else(|| {
                    let name = match self.get("nginx_main_worker_processes") {
                        Some(_) => "nginx_main_worker_processes",
                        None => "nginx_worker_processes",
                    };
                    errors.push(format!(
                        "{}: expected a number from 1 to {MOST_WORKERS} or 'auto', found '{text}'",
                        self.origin(name)
                    ));
                    1
                })
            }
        };
        let mut trusted = Vec::new();
        for item in self.list("trusted_ips") {
            match item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from)) {
                Ok(net) => trusted.push(net),
                Err(_) => errors.push(format!(
                    "{}: '{item}' is no address and no CIDR range",
                    self.origin("trusted_ips")
                )),
            }
        }
        let headers =
            tollgate_gateway::HeaderTokens::parse(&self.list("headers")).unwrap_or_else(|message| {
                errors.push(format!("{}: {message}", self.origin("headers")));
                tollgate_gateway::HeaderTokens::OFF
            });
        let share = |text: &str| text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        let rate = self.newer("tracing_sampling_rate", "opentelemetry_tracing_sampling_rate");
        let sampling_rate = self.parsed(rate, "a number from 0 to 1", share, &mut errors).unwrap_or_default();
        let parts = self.newer("tracing_instrumentations", "opentelemetry_tracing");
        let traces = TraceSettings::parse(&self.list(parts), sampling_rate).unwrap_or_else(|message| {
            errors.push(format!("{}: {message}", self.origin(parts)));
            TraceSettings::default()
        });
        let database = match self.get("database") {
            Some("off") => Database::Off,
            None | Some("sqlite") => Database::Sqlite,
            Some("postgres") if !self.values.contains_key("database") => Database::Sqlite,
            Some(other) => {
                errors.push(format!("{}: '{other}' is not there yet; use 'sqlite' (an embedded store) or 'off' (a declarative file)", self.origin("database")));
                Database::Off
            }
        };
        let mut port_maps = std::collections::HashMap::new();
        for item in self.list("port_maps") {
            match item
                .split_once(':')
                .and_then(|(outer, inner)| Some((inner.trim().parse().ok()?, outer.trim().parse().ok()?)))
            {
                Some((inner, outer)) => {
                    port_maps.insert(inner, outer);
                }
                None => {
                    errors.push(format!("{}: expected 'port:port', found '{item}'", self.origin("port_maps")))
                }
            }
        }
        let pool = tollgate_http::client::PoolSettings {
            size: self.parsed("upstream_keepalive_pool_size", "a number", number, &mut errors).unwrap_or(512)
                as usize,
            idle: Duration::from_secs(
                self.parsed("upstream_keepalive_idle_timeout", "seconds", number, &mut errors).unwrap_or(60),
            ),
            requests: self
                .parsed("upstream_keepalive_max_requests", "a number", number, &mut errors)
                .unwrap_or(10_000),
        };
        self.check_choices(&mut errors);
        self.check_together(&mut errors);
        let log_level = self.parsed(
            "log_level",
            "one of debug, info, notice, warn, error, crit, alert, emerg",
            Level::named,
            &mut errors,
        );
        let node = Node {
            log_level: log_level.unwrap_or(Level::Notice),
            error_log: self.log_file("proxy_error_log"),
            access_log: self.log_file("proxy_access_log"),
            admin_access_log: self.log_file("admin_access_log"),
            status_access_log: self.log_file("status_access_log"),
            prefix: self.prefix(),
            proxy,
            admin,
            status,
            workers,
            limits,
            pool,
            headers,
            traces,
            upstream_request_id: self
                .list("headers_upstream")
                .iter()
                .any(|name| name.eq_ignore_ascii_case("x-kong-request-id")),
            product: self
                .get("server_token")
                .map_or_else(|| concat!("tollgate/", env!("CARGO_PKG_VERSION")).to_owned(), str::to_owned),
            trusted,
            real_ip_header: self.get("real_ip_header").unwrap_or("X-Real-IP").to_owned(),
            real_ip_recursive: self.flag("real_ip_recursive"),
            debug_header: self.flag("allow_debug_header"),
            port_maps,
            database,
            declarative_config: self.get("declarative_config").map(PathBuf::from),
            declarative_config_string: self.get("declarative_config_string").map(str::to_owned),
            plugins: self.list("plugins"),
            price_list: self.get("ai_price_list").map(PathBuf::from),
            lua: Policy {
                untrusted: self.get("untrusted_lua").and_then(Untrusted::named).unwrap_or_default(),
                requires: self.list("untrusted_lua_sandbox_requires"),
            },
            certificate: self
                .get("ssl_cert")
                .map(str::to_owned)
                .zip(self.get("ssl_cert_key").map(str::to_owned)),
            tls12: self.get("ssl_protocols").is_none_or(|protocols| protocols.contains("TLSv1.2")),
            verify_upstreams: self.flag("tls_certificate_verify")
                || self.flag("nginx_proxy_proxy_ssl_verify"),
            admin_token: self.get("admin_token").map(str::to_owned),
            shown: self.shown(),
            values: self.values.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect(),
            error_default_type: self.get("error_default_type").unwrap_or("text/plain").to_owned(),
            error_templates: ["json", "html", "xml", "plain"]
                .map(|kind| self.get(&format!("error_template_{kind}")).map(PathBuf::from)),
            client_certificate: self
                .get("client_ssl_cert")
                .map(str::to_owned)
                .zip(self.get("client_ssl_cert_key").map(str::to_owned))
                .filter(|_| self.flag("client_ssl")),
        };
        let loopback = |listener: &Listener| listener.address.ip().is_loopback();
        if node.admin_token.is_none() && !node.admin.iter().all(loopback) {
            errors.push(format!("{}: without admin_token the Admin API listens on loopback only; set one, or listen on 127.0.0.1", self.origin("admin_listen")));
        }
        if errors.is_empty() { Ok(node) } else { Err(ConfError(errors)) }
    }

    /// The file of a log, relative ones below the prefix; `None` where it is off. A format's name after it is
    /// left aside: there is one.
    fn log_file(&self, name: &str) -> Option<PathBuf> {
        let file = self.get(name)?.split_whitespace().next()?;
        (file != "off").then(|| PathBuf::from(file))
    }

    /// Where store, logs and pid are: `prefix`, else Kong's place where it can be written to, else `~/.tollgate`.
    pub fn prefix(&self) -> PathBuf {
        if let Some(prefix) = self.get("prefix") {
            return PathBuf::from(prefix);
        }
        let usual = PathBuf::from("/usr/local/tollgate");
        let nearest = usual.ancestors().find(|folder| folder.exists());
        if nearest.is_some_and(|folder| access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()) {
            return usual;
        }
        std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".tollgate")
    }

    /// Lines that say what was set and where; with `all`, every other property's default too. Secrets hidden.
    pub fn described(&self, all: bool) -> Vec<String> {
        let file = self.file.as_ref().map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
        let mut lines = vec![format!("configuration: {file}")];
        for (name, (value, origin)) in &self.values {
            let secret = PROPERTIES.iter().any(|property| property.name == name && property.secret)
                || ["password", "secret", "token", "_key"].iter().any(|part| name.contains(part));
            let effect = if property::has_effect(name) { "" } else { ", without effect here" };
            lines.push(format!("{name} = {} ({origin}{effect})", if secret { "******" } else { value }));
        }
        let others = PROPERTIES.iter().filter(|property| all && !self.values.contains_key(property.name));
        lines.extend(others.map(|property| format!("{} = {} (default)", property.name, property.default)));
        lines
    }

    /// Every property with its value, secrets hidden, for `GET /`.
    fn shown(&self) -> serde_json::Map<String, serde_json::Value> {
        PROPERTIES
            .iter()
            .map(|property| {
                let value = match self.get(property.name) {
                    Some(_) if property.secret => "******".into(),
                    Some(value) => value.into(),
                    None => serde_json::Value::Null,
                };
                (property.name.to_owned(), value)
            })
            .collect()
    }
}

/// Where entities are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// In the embedded store.
    Sqlite,
    /// In a declarative file.
    Off,
}

/// A checked configuration. Secrets are in it: not `Debug`.
#[derive(Clone)]
pub struct Node {
    /// `prefix`
    pub prefix: PathBuf,
    /// `log_level`
    pub log_level: Level,
    /// `proxy_error_log`; standard error where there is none.
    pub error_log: Option<PathBuf>,
    /// `proxy_access_log`
    pub access_log: Option<PathBuf>,
    /// `admin_access_log`
    pub admin_access_log: Option<PathBuf>,
    /// `status_access_log`
    pub status_access_log: Option<PathBuf>,
    /// `proxy_listen`
    pub proxy: Vec<Listener>,
    /// `admin_listen`
    pub admin: Vec<Listener>,
    /// `status_listen`
    pub status: Vec<Listener>,
    /// `nginx_worker_processes`
    pub workers: usize,
    /// Bounds on clients.
    pub limits: Limits,
    /// `upstream_keepalive_*`
    pub pool: tollgate_http::client::PoolSettings,
    /// `headers`
    pub headers: tollgate_gateway::HeaderTokens,
    /// `tracing_instrumentations` and `tracing_sampling_rate`
    pub traces: TraceSettings,
    /// `headers_upstream`
    pub upstream_request_id: bool,
    /// `server_token`
    pub product: String,
    /// `trusted_ips`
    pub trusted: Vec<IpNet>,
    /// `real_ip_header`
    pub real_ip_header: String,
    /// `real_ip_recursive`
    pub real_ip_recursive: bool,
    /// `allow_debug_header`
    pub debug_header: bool,
    /// `port_maps`
    pub port_maps: std::collections::HashMap<u16, u16>,
    /// `database`
    pub database: Database,
    /// `declarative_config`
    pub declarative_config: Option<PathBuf>,
    /// `declarative_config_string`
    pub declarative_config_string: Option<String>,
    /// `plugins`
    pub plugins: Vec<String>,
    /// `ai_price_list`
    pub price_list: Option<PathBuf>,
    /// `untrusted_lua`, `untrusted_lua_sandbox_requires`
    pub lua: Policy,
    /// `ssl_cert` and `ssl_cert_key`
    pub certificate: Option<(String, String)>,
    /// Whether `ssl_protocols` allow TLS 1.2.
    pub tls12: bool,
    /// Whether upstream certificates are checked by default.
    pub verify_upstreams: bool,
    /// `admin_token`
    pub admin_token: Option<String>,
    /// Every property with its value, secrets hidden.
    pub shown: serde_json::Map<String, serde_json::Value>,
    /// `error_default_type`
    pub error_default_type: String,
    /// `error_template_json`, `…_html`, `…_xml`, `…_plain`
    pub error_templates: [Option<PathBuf>; 4],
    /// `client_ssl_cert` and `client_ssl_cert_key`, where `client_ssl` is on.
    pub client_certificate: Option<(String, String)>,
    /// What was set, to see what a reload changes.
    pub values: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Configuration {
        Configuration::load(
            None,
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
        .unwrap()
    }

    #[test]
    fn the_environment_wins_and_tollgate_over_kong() {
        let configuration = load(&[
            ("TOLLGATE_HEADERS", "off"),
            ("KONG_HEADERS", "server_tokens"),
            ("KONG_PROXY_LISTEN", "127.0.0.1:1 ssl http2 backlog=5, off"),
        ]);
        assert_eq!(configuration.get("headers"), Some("off"));
        let node = configuration.check().unwrap();
        assert_eq!(node.proxy.len(), 1);
        assert!(node.proxy[0].ssl && node.proxy[0].http2 && node.proxy[0].backlog == 5);
        assert_eq!(load(&[]).check().unwrap().proxy.len(), 2);
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let configuration = load(&[
            ("KONG_PROXY_LISTEN", "here"),
            ("KONG_HEADERS", "nonsense"),
            ("KONG_NGINX_WORKER_PROCESSES", "many"),
            ("KONG_ADMIN_LISTEN", "0.0.0.0:8001"),
            ("KONG_PROXY_LISTN", "x"),
            ("KONG_ROLE", "control_plane"),
            ("KONG_REAL_IP_RECURSIVE", "perhaps"),
        ]);
        assert_eq!(
            configuration.warnings,
            ["KONG_PROXY_LISTN: the property 'proxy_listn' is not known; did you mean 'proxy_listen'?"]
        );
        let message = configuration.check().err().unwrap().to_string();
        for part in [
            "proxy_listen (KONG_PROXY_LISTEN): 'here' is no address",
            "'nonsense'",
            "'many'",
            "admin_token",
            "role (KONG_ROLE): expected one of traditional, found 'control_plane'",
            "'perhaps'",
        ] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }

    #[test]
    fn values_come_from_the_environment_by_reference() {
        let configuration = load(&[("KONG_ADMIN_TOKEN", "{vault://env/my-token}"), ("MY_TOKEN", "canary")]);
        assert_eq!(configuration.get("admin_token"), Some("canary"));
        let shown = configuration.described(true).join("\n");
        assert!(shown.contains("admin_token = ****** (KONG_ADMIN_TOKEN)"), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
        let missing = [("KONG_ADMIN_TOKEN".to_owned(), "{vault://env/none}".to_owned())];
        let error = Configuration::load(None, missing.into_iter()).err().unwrap().to_string();
        assert_eq!(
            error,
            "admin_token (KONG_ADMIN_TOKEN): the environment has no NONE for '{vault://env/none}'"
        );
    }
}
