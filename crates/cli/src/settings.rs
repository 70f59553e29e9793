//! How the server is spoken to: flags over `DECK_…` variables over the configuration file over defaults.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tollgate_declare::Node;
use tollgate_declare::node::Data;

use crate::CliError;
use crate::arguments::Connection;

/// decK's default address of the Admin API; another one decides for Kong, whatever else is set.
const KONG_ADDR: &str = "http://localhost:8001";

/// Settings of a run.
#[derive(Clone)]
pub struct Settings {
    /// Address of the Admin API, without a slash at the end.
    pub kong_addr: String,
    /// Address of Konnect, without a slash at the end; where it was set.
    pub konnect_addr: Option<String>,
    /// Token for the Admin API.
    pub admin_token: Option<String>,
    /// Token for Konnect.
    pub konnect_token: Option<String>,
    /// Name of the control plane; where it was set.
    pub control_plane: Option<String>,
    /// Headers to send along.
    pub headers: Vec<(String, String)>,
    /// Cookies to send along.
    pub cookies: Option<String>,
    /// Whether the server's certificate is believed unseen.
    pub skip_verify: bool,
    /// Name the certificate must have, where it is not the address's.
    pub server_name: Option<String>,
    /// Certificate authorities to trust besides the system's, as PEM.
    pub ca: Option<String>,
    /// Certificate and key to show, as PEM.
    pub client_certificate: Option<(String, String)>,
    /// Whether workspaces are neither looked for nor created.
    pub skip_workspaces: bool,
    /// Longest time for a call.
    pub timeout: Duration,
    /// Whether requests and answers are shown.
    pub verbose: bool,
    /// Whether colours are unwanted.
    pub no_color: bool,
}

impl Settings {
    /// Gathers the settings.
    ///
    /// # Errors
    /// Files that cannot be read, values that cannot be.
    pub fn gather(flags: &Connection, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, CliError> {
        if flags.konnect_token.is_some() && flags.konnect_token_file.is_some() {
            return Err(CliError::Message(
                "if any flags in the group [konnect-token-file konnect-token] are set none of the others can be; \
                 [konnect-token konnect-token-file] were all set"
                    .into(),
            ));
        }
        let sources = Sources { file: read_file(flags, variable)?, variable };
        let text = |flag: &Option<String>, name: &str| sources.text(flag.as_deref(), name);
        let number = |flag: Option<u64>, name: &str, default: u64| match flag {
            Some(number) => Ok(number),
            None => match sources.text(None, name) {
                None => Ok(default),
                Some(text) => text
                    .parse()
                    .map_err(|_| CliError::Message(format!("{name}: expected a number, found '{text}'"))),
            },
        };
        let kong_addr = address(text(&flags.kong_addr, "kong-addr").unwrap_or_else(|| KONG_ADDR.to_owned()))?;
        let konnect_addr = text(&flags.konnect_addr, "konnect-addr").map(address).transpose()?;
        let konnect_token = match text(&flags.konnect_token, "konnect-token")
            .filter(|_| flags.konnect_token_file.is_none())
        {
            Some(token) => Some(token),
            None => match text(&flags.konnect_token_file, "konnect-token-file") {
                Some(file) => {
                    let token = read(&file)?.trim().to_owned();
                    if token.is_empty() {
                        return Err(CliError::Message(format!("{file}: the token file is empty")));
                    }
                    Some(token)
                }
                None => None,
            },
        };
        let pem = |text_of: Option<String>, file: Option<String>| match (text_of, file) {
            (Some(pem), _) => Ok(Some(pem)),
            (None, Some(file)) => read(&file).map(Some),
            (None, None) => Ok(None),
        };
        let ca = pem(text(&flags.ca_cert, "ca-cert"), text(&flags.ca_cert_file, "ca-cert-file"))?;
        let certificate = pem(
            text(&flags.tls_client_cert, "tls-client-cert"),
            text(&flags.tls_client_cert_file, "tls-client-cert-file"),
        )?;
        let key = pem(
            text(&flags.tls_client_key, "tls-client-key"),
            text(&flags.tls_client_key_file, "tls-client-key-file"),
        )?;
        let client_certificate = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(CliError::Message(
                    "a client certificate needs both --tls-client-cert (or -file) and --tls-client-key (or -file)".into(),
                ));
            }
        };
        let control_plane = text(&flags.konnect_control_plane_name, "konnect-control-plane-name")
            .or_else(|| text(&flags.konnect_runtime_group_name, "konnect-runtime-group-name"));
        let cookies = text(&flags.kong_cookie_jar_path, "kong-cookie-jar-path")
            .map(|file| read(&file).map(|text| cookies(&text)))
            .transpose()?
            .filter(|cookies| !cookies.is_empty());
        Ok(Self {
            kong_addr,
            konnect_addr,
            admin_token: text(&flags.kong_admin_token, "kong-admin-token"),
            konnect_token,
            control_plane,
            headers: sources.headers(&flags.headers)?,
            cookies,
            skip_verify: sources.flag(flags.tls_skip_verify, "tls-skip-verify"),
            server_name: text(&flags.tls_server_name, "tls-server-name"),
            ca,
            client_certificate,
            skip_workspaces: sources.flag(flags.skip_workspace_crud, "skip-workspace-crud"),
            timeout: Duration::from_secs(number(flags.timeout, "timeout", 10)?.max(1)),
            verbose: number(flags.verbose.map(u64::from), "verbose", 0)? > 0,
            no_color: sources.flag(flags.no_color, "no-color")
                || variable("NO_COLOR").is_some_and(|set| !set.is_empty()),
        })
    }

    /// Whether Konnect is meant where no file says so.
    pub fn is_konnect(&self) -> bool {
        self.kong_addr == KONG_ADDR && (self.konnect_token.is_some() || self.konnect_addr.is_some())
            || self.kong_addr == self.konnect_addr.as_deref().unwrap_or_default()
                && self.konnect_token.is_some()
    }

    /// Where Konnect's API is: by default the same server.
    pub fn konnect_addr(&self) -> &str {
        self.konnect_addr.as_deref().unwrap_or(&self.kong_addr)
    }
}

struct Sources<'a> {
    file: HashMap<String, Vec<String>>,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Sources<'_> {
    fn text(&self, flag: Option<&str>, name: &str) -> Option<String> {
        let variable =
            || (self.variable)(&format!("DECK_{}", name.to_ascii_uppercase().replace(['-', '.'], "_")));
        let found = flag.map(str::to_owned).or_else(variable);
        found.or_else(|| self.file.get(name)?.first().cloned()).filter(|value| !value.is_empty())
    }

    fn flag(&self, flag: bool, name: &str) -> bool {
        let on = |text: String| matches!(text.as_str(), "1" | "t" | "T" | "true" | "True" | "TRUE");
        flag || self.text(None, name).is_some_and(on)
    }

    fn headers(&self, flags: &[String]) -> Result<Vec<(String, String)>, CliError> {
        let variable = (self.variable)("DECK_HEADERS").filter(|headers| !headers.is_empty());
        let list = match (flags, variable) {
            ([_, ..], _) => flags.to_vec(),
            ([], Some(headers)) => headers.split(',').map(str::to_owned).collect(),
            ([], None) => self.file.get("headers").cloned().unwrap_or_default(),
        };
        list.iter()
            .map(|header| match header.split_once(':') {
                Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
                None => Err(CliError::Message(format!(
                    "headers: '{}' is not of the form name:value",
                    header.split(' ').next().unwrap_or_default()
                ))),
            })
            .collect()
    }
}

fn read(file: &str) -> Result<String, CliError> {
    std::fs::read_to_string(file).map_err(|error| CliError::Message(format!("{file}: {error}")))
}

fn address(text: String) -> Result<String, CliError> {
    let text = text.trim_end_matches('/').to_owned();
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    if matches!(scheme, Some("http" | "https")) && text.parse::<ureq::http::Uri>().is_ok() {
        Ok(text)
    } else {
        Err(CliError::Message(format!("invalid URL: '{text}': expected http://… or https://…")))
    }
}

/// The configuration file: a flat mapping with the names of the flags.
fn read_file(
    flags: &Connection,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<HashMap<String, Vec<String>>, CliError> {
    let file = match &flags.config {
        Some(file) => PathBuf::from(file),
        None => match variable("HOME").map(|home| PathBuf::from(home).join(".deck.yaml")) {
            Some(file) if file.exists() => file,
            _ => return Ok(HashMap::new()),
        },
    };
    let name = file.display().to_string();
    let node = Node::parse(&name, &read(&name)?)
        .map_err(|problem| CliError::Message(format!("reading the configuration file: {problem}")))?;
    let members = match node.data {
        Data::Map(members) => members,
        _ if node.is_null() => Vec::new(),
        _ => return Err(CliError::Message(format!("{name}: expected lines such as 'kong-addr: http://…'"))),
    };
    let text = |node: Node| match node.into_value() {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(members
        .into_iter()
        .map(|(name, node)| {
            let values = match node.data {
                Data::List(list) => list.into_iter().map(text).collect(),
                _ if node.is_null() => Vec::new(),
                _ => vec![text(node)],
            };
            (name, values)
        })
        .collect())
}

/// The cookies of a Netscape cookie file, as a `Cookie` header.
fn cookies(text: &str) -> String {
    let lines = text.lines().map(|line| line.strip_prefix("#HttpOnly_").unwrap_or(line));
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                [_, _, _, _, _, name, value] => Some(format!("{name}={value}")),
                _ => None,
            }
        })
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(flags: &Connection, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let variable = |name: &str| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::gather(flags, &variable).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_win_over_variables_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join(".deck.yaml"),
            "kong-addr: http://file:1/\ntimeout: 3\nheaders: [\"a: b\"]\nno-color: true\n",
        )
        .unwrap();
        let home = folder.path().to_str().unwrap();
        let settings = gather(&Connection::default(), &[("HOME", home)]).unwrap();
        assert_eq!((settings.kong_addr.as_str(), settings.timeout.as_secs()), ("http://file:1", 3));
        assert_eq!(settings.headers, [("a".to_owned(), "b".to_owned())]);
        assert!(settings.no_color && !settings.is_konnect());
        let variables = [("HOME", home), ("DECK_KONG_ADDR", "http://env:1"), ("DECK_HEADERS", "x:y:z")];
        let settings = gather(&Connection::default(), &variables).unwrap();
        assert_eq!(settings.kong_addr, "http://env:1");
        assert_eq!(settings.headers, [("x".to_owned(), "y:z".to_owned())]);
        let flags = Connection { kong_addr: Some("http://flag:1".into()), ..Connection::default() };
        assert_eq!(gather(&flags, &variables).unwrap().kong_addr, "http://flag:1");
    }

    #[test]
    fn konnect_or_kong() {
        let konnect =
            |variables: &[(&str, &str)]| gather(&Connection::default(), variables).unwrap().is_konnect();
        assert!(!konnect(&[]));
        assert!(konnect(&[("DECK_KONNECT_TOKEN", "t")]));
        assert!(konnect(&[("DECK_KONNECT_ADDR", "http://k")]));
        assert!(!konnect(&[("DECK_KONNECT_TOKEN", "t"), ("DECK_KONG_ADDR", "http://other:8001")]));
        assert!(konnect(&[("DECK_KONNECT_TOKEN", "t"), ("DECK_KONG_ADDR", "http://localhost:8001/")]));
    }

    #[test]
    fn what_cannot_be_is_said() {
        let with = |change: fn(&mut Connection)| {
            let mut flags = Connection::default();
            change(&mut flags);
            gather(&flags, &[]).err().unwrap()
        };
        assert!(with(|flags| flags.kong_addr = Some("localhost:8001".into())).starts_with("invalid URL"));
        assert!(with(|flags| flags.headers = vec!["nothing".into()]).contains("name:value"));
        assert!(with(|flags| flags.tls_client_cert = Some("x".into())).contains("--tls-client-key"));
        assert!(
            with(|flags| {
                flags.konnect_token = Some("a".into());
                flags.konnect_token_file = Some("b".into());
            })
            .starts_with("if any flags in the group")
        );
    }

    #[test]
    fn cookie_files() {
        let text = "# Netscape\n#HttpOnly_h\tTRUE\t/\tFALSE\t0\ta\t1\nh\tTRUE\t/\tFALSE\t0\tb\t2\n";
        assert_eq!(cookies(text), "a=1; b=2");
    }
}
