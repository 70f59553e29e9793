//! Where a call is sent: the provider's address, or the configured one, with the request's values filled in.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use tollgate_gateway::destination::Destination;
use tollgate_gateway::{BuildError, Exchange};
use tollgate_http::client::{TlsProfile, TlsProfileError};
use tollgate_llm::template::Template;
use tollgate_llm::{Format, Operation, Provider};

use super::config::Options;
use super::{render, set_argument};

/// Where the provider is.
pub(super) struct Upstream {
    server: Server,
    path: Path,
    /// Header fields and the argument that the provider wants on every request.
    headers: Vec<(&'static str, Template)>,
    query: Option<(&'static str, Template)>,
}

enum Server {
    Fixed {
        destination: Arc<Destination>,
        /// The same for services that check no certificates.
        trusting: Arc<Destination>,
    },
    /// A host with placeholders.
    Templated { host: Template, port: u16, tls: Option<&'static Profiles> },
    /// A whole address in a placeholder; the profiles are for the case that it is https.
    Address { address: Template, tls: &'static Profiles },
}

/// How to speak TLS. Kong 3.11 checks no certificates unless told so; a provider's key is worth checking for,
/// unless `tls_verify: false` of the service says otherwise.
struct Profiles {
    checking: Arc<TlsProfile>,
    trusting: Arc<TlsProfile>,
}

impl Profiles {
    /// The same ones for all: reading the system's authorities takes time, and connections are shared by
    /// profile.
    fn shared() -> Result<&'static Self, String> {
        static SHARED: LazyLock<Result<Profiles, String>> = LazyLock::new(|| {
            let profile = |verify| TlsProfile::new(verify, &[], None).map(Arc::new);
            let both = || Ok(Profiles { checking: profile(true)?, trusting: profile(false)? });
            both().map_err(|error: TlsProfileError| error.to_string())
        });
        SHARED.as_ref().map_err(Clone::clone)
    }

    fn of(&self, exchange: &Exchange) -> Arc<TlsProfile> {
        Arc::clone(if trusts(exchange) { &self.trusting } else { &self.checking })
    }
}

/// Whether the service says that certificates are not to be checked.
fn trusts(exchange: &Exchange) -> bool {
    let service = exchange.route.as_ref().and_then(|route| route.service.as_ref());
    service.is_some_and(|service| service.entity.get("tls_verify") == Some(&false.into()))
}

enum Path {
    Fixed(Bytes),
    Templated(Template),
    /// The client's own.
    Client,
    /// The one of [`Server::Address`].
    OfAddress,
    /// Made for each call by the provider.
    OfCall,
}

impl Upstream {
    /// Compiles what is configured: `upstream_url` stands for the whole address, `upstream_path` for the path of
    /// the provider's; with `preserve` the client's path is kept unless `upstream_path` is set.
    ///
    /// # Errors
    /// An address that cannot be one.
    pub(super) fn new(
        provider: &dyn Provider,
        (format, operation): (Format, Operation),
        options: &Options,
    ) -> Result<Self, BuildError> {
        let failed = |message: String| BuildError { field: "model.options.upstream_url".to_owned(), message };
        let url = options.upstream_url.as_deref();
        let base = if url.is_none() { provider.base_path() } else { "" };
        let own_path = options.upstream_path.as_deref().map(|path| match base {
            "" => Path::of(path),
            base => Path::of(&format!("{base}/{}", path.trim_start_matches('/'))),
        });
        let (server, url_path) = match url {
            Some(url) => Server::of_url(url).map_err(failed)?,
            None => (Server::of_host(&provider.host(), 443, Some(Profiles::shared().map_err(failed)?)), None),
        };
        // An address without a path says where the provider is, and no more.
        let is_bare = url.is_none() || url_path.as_deref() == Some("/");
        let of_call = provider.has_call_paths(format, operation) && own_path.is_none();
        let path = match (operation, url) {
            _ if of_call && is_bare => Path::OfCall,
            (Operation::Preserve, _) => own_path.unwrap_or(Path::Client),
            (_, Some(_)) => url_path.map_or(Path::OfAddress, |path| Path::of(&path)),
            (operation, None) => own_path
                .or_else(|| provider.path(operation).map(|path| Path::of(&path)))
                .unwrap_or(Path::Client),
        };
        let headers = provider.headers();
        let headers = headers.iter().map(|(name, value)| (*name, Template::new(value))).collect();
        let query = provider.query().map(|(name, value)| (name, Template::new(value)));
        Ok(Self { server, path, headers, query })
    }

    /// Names of the header fields that the provider wants on every request.
    pub(super) fn header_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.headers.iter().map(|(name, _)| *name)
    }

    /// Sets what the provider wants on every request.
    ///
    /// # Errors
    /// What the client is told (status 400) where a value is missing.
    pub(super) fn mark(&self, exchange: &mut Exchange) -> Result<(), String> {
        for (name, value) in &self.headers {
            let value = render(value, exchange)?;
            exchange.head.headers.set(name, &*value);
        }
        if let Some((name, value)) = &self.query {
            let value = render(value, exchange)?;
            set_argument(exchange, name, &value, true);
        }
        Ok(())
    }

    /// Destination and path of a request; the path is empty where the provider makes it for each call.
    ///
    /// # Errors
    /// What the client is told (status 400) where a value is missing or would lead elsewhere.
    pub(super) fn resolve(&self, exchange: &Exchange) -> Result<(Arc<Destination>, Bytes), String> {
        let mut address_path = None;
        let destination = match &self.server {
            Server::Fixed { destination, trusting } => {
                let trusts = destination.tls.is_some() && trusts(exchange);
                Arc::clone(if trusts { trusting } else { destination })
            }
            Server::Templated { host, port, tls } => {
                let host = render(host, exchange)?;
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
                if host.is_empty() || !host.bytes().all(is_name) {
                    return Err(format!("'{host}' is no host name"));
                }
                Arc::new(Destination::new(&host, *port, tls.map(|tls| tls.of(exchange))))
            }
            Server::Address { address, tls } => {
                let url = render(address, exchange)?;
                let (https, host, port, path) = split_url(&url)?;
                address_path = Some(path.to_owned());
                let port = port.parse().map_err(|_| format!("no valid port in '{url}'"))?;
                Arc::new(Destination::new(host, port, https.then(|| tls.of(exchange))))
            }
        };
        let path = match &self.path {
            Path::Fixed(path) => path.clone(),
            Path::Client => exchange.path.clone(),
            Path::OfCall => Bytes::new(),
            Path::Templated(template) => safe_path(&render(template, exchange)?)?,
            Path::OfAddress => safe_path(&address_path.unwrap_or_default())?,
        };
        Ok((destination, path))
    }
}

/// Whether a configured address can be one.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_address(url: &str) -> Result<(), String> {
    if url.starts_with(PLACEHOLDER) {
        return Ok(());
    }
    let (_, _, port, _) = split_url(url)?;
    port.parse::<u16>().map(drop).map_err(|_| wrong("no valid port", url))
}

/// What a value of the request begins with; at the start of an address it stands for all of it.
const PLACEHOLDER: &str = "$(";

impl Server {
    fn fixed(host: &str, port: u16, tls: Option<&Profiles>) -> Self {
        let destination = |profile: fn(&Profiles) -> &Arc<TlsProfile>| {
            Arc::new(Destination::new(host, port, tls.map(profile).cloned()))
        };
        Self::Fixed {
            destination: destination(|tls| &tls.checking),
            trusting: destination(|tls| &tls.trusting),
        }
    }

    /// The server of an address, and its path; no path where all of the address is a placeholder.
    fn of_url(url: &str) -> Result<(Self, Option<String>), String> {
        if url.starts_with(PLACEHOLDER) {
            let address = Template::new(url);
            return Ok((Self::Address { address, tls: Profiles::shared()? }, None));
        }
        let (https, host, port, path) = split_url(url)?;
        let port = port.parse().map_err(|_| wrong("no valid port", url))?;
        let tls = if https { Some(Profiles::shared()?) } else { None };
        Ok((Self::of_host(host, port, tls), Some(path.to_owned())))
    }

    /// The server of a host that may hold placeholders.
    fn of_host(host: &str, port: u16, tls: Option<&'static Profiles>) -> Self {
        let template = Template::new(host);
        match template.fixed() {
            Some(host) => Self::fixed(host, port, tls),
            None => Self::Templated { host: template, port, tls },
        }
    }
}

impl Path {
    fn of(path: &str) -> Self {
        let template = Template::new(path);
        match template.fixed() {
            Some(path) => Self::Fixed(one_slash(path)),
            None => Self::Templated(template),
        }
    }
}

fn one_slash(path: &str) -> Bytes {
    format!("/{}", path.trim_start_matches('/')).into()
}

/// A path that a request's values are part of: it must not climb, nor end in a query of its own.
pub(super) fn safe_path(path: &str) -> Result<Bytes, String> {
    let climbs = path.split('/').any(|segment| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == ".." || segment == "."
    });
    let is_path = |byte: u8| byte.is_ascii_graphic() && !b"?#\\".contains(&byte);
    if climbs || !path.bytes().all(is_path) {
        return Err(format!("'{path}' is no path"));
    }
    Ok(one_slash(path))
}

fn wrong(what: &str, url: &str) -> String {
    format!("{what} in '{url}'; expected http(s)://host[:port][/path]")
}

/// Whether an address is https, its host, port and path; its query is left out (Kong 3.11).
fn split_url(url: &str) -> Result<(bool, &str, &str, &str), String> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("no scheme", url))?;
    let https = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(wrong("unknown scheme", url)),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, if https { "443" } else { "80" }),
    };
    if host.is_empty() || host.contains('@') {
        return Err(wrong("no host", url));
    }
    Ok((https, host, port, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, expected) in [
            ("http://a/v1?x=1", Ok((false, "a", "80", "/v1"))),
            ("https://a.b:8443", Ok((true, "a.b", "8443", "/"))),
            ("https://[::1]:99/x", Ok((true, "[::1]", "99", "/x"))),
            ("https://[::1]/x", Ok((true, "[::1]", "443", "/x"))),
            ("a/v1", Err("no scheme in 'a/v1'; expected http(s)://host[:port][/path]")),
            ("ftp://a", Err("unknown scheme in 'ftp://a'; expected http(s)://host[:port][/path]")),
            ("http:///v1", Err("no host in 'http:///v1'; expected http(s)://host[:port][/path]")),
            ("http://key@a/", Err("no host in 'http://key@a/'; expected http(s)://host[:port][/path]")),
        ] {
            assert_eq!(split_url(url), expected.map_err(str::to_owned), "{url}");
        }
    }

    #[test]
    fn paths_made_of_values_do_not_climb() {
        assert_eq!(safe_path("//v1/models/a.b:x").unwrap(), "/v1/models/a.b:x");
        for path in ["/v1/../admin", "/v1/%2E%2e/admin", "/v1/.", "/v1?x", "/v1#x", "/v 1", "/v1/\u{e9}"] {
            assert!(safe_path(path).is_err(), "{path}");
        }
    }

    /// Azure's `upstream_path` begins below the deployment (Kong 3.11); the path of an address stands for itself.
    #[test]
    fn configured_paths() {
        let options = |path: Option<&str>, url: Option<&str>| Options {
            azure_instance: Some("i".to_owned()),
            azure_deployment_id: Some("d".to_owned()),
            upstream_path: path.map(str::to_owned),
            upstream_url: url.map(str::to_owned),
            ..Options::default()
        };
        for (provider, operation, path, url, expected) in [
            ("azure", Operation::Chat, None, None, Some("/openai/deployments/d/chat/completions")),
            ("azure", Operation::Preserve, Some("/other"), None, Some("/openai/deployments/d/other")),
            ("azure", Operation::Preserve, Some("/other"), Some("http://a/b"), Some("/other")),
            ("azure", Operation::Preserve, None, None, None),
            ("openai", Operation::Chat, Some("other"), None, Some("/other")),
            ("openai", Operation::Chat, Some("other"), Some("http://a/b"), Some("/b")),
        ] {
            let options = options(path, url);
            let provider = tollgate_llm::provider::configured(provider, &options.settings()).unwrap();
            let upstream = Upstream::new(&*provider, (Format::OpenAi, operation), &options).unwrap();
            match (upstream.path, expected) {
                (Path::Fixed(path), Some(expected)) => assert_eq!(path, expected),
                (Path::Client, None) => {}
                (_, expected) => panic!("{expected:?}"),
            }
        }
    }
}
