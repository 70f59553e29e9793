//! `cors`: tells browsers which origins may read answers, and answers their preflights.

mod origins;

use std::sync::Arc;

use tollgate_gateway::{Access, BuildError, Exchange, Phases, Plugin, ResponseFilter, Scope};
use tollgate_http::{Headers, Method, Response, StatusCode};
use tollgate_model::{Config, Map, PluginSchema, Value};

use self::origins::{Allowed, Origins};
use crate::read;

/// Configuration of `cors` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct CorsConfig {
    /// Origins that are allowed: `*`, plain ones, or regular expressions. Without any, all are.
    #[config(each(check = origins::check))]
    pub origins: Option<Vec<String>>,
    /// Value of `Access-Control-Allow-Headers`; without it the headers that are asked for.
    pub headers: Option<Vec<String>>,
    /// Value of `Access-Control-Expose-Headers`.
    pub exposed_headers: Option<Vec<String>>,
    /// Value of `Access-Control-Allow-Methods`.
    #[config(
        default = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT"],
        each(one_of("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT"))
    )]
    pub methods: Option<Vec<String>>,
    /// Seconds for which a preflight's answer may be kept.
    pub max_age: Option<f64>,
    /// Whether credentials may be sent.
    #[config(default = false)]
    pub credentials: bool,
    /// Whether pages of public networks may reach this one.
    #[config(default = false)]
    pub private_network: bool,
    /// Whether preflights are the upstream's to answer.
    #[config(default = false)]
    pub preflight_continue: bool,
    /// Whether answers to requests without `Origin` get the headers too.
    #[config(default = true)]
    pub allow_origin_absent: bool,
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new("cors", 2000, CorsConfig::schema())
        .about("Tells browsers which origins may read answers, and answers their preflights.")
        .without_consumer()
        .without_consumer_group()
}

/// Compiles a configured `cors`.
///
/// # Errors
/// An origin that is no regular expression.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: CorsConfig = read(config)?;
    let origins = Origins::new(config.origins.as_deref().unwrap_or_default())
        .map_err(|message| BuildError { field: "config.origins".into(), message })?;
    let joined = |list: Option<Vec<String>>| list.filter(|list| !list.is_empty()).map(|list| list.join(","));
    Ok(Arc::new(Cors {
        origins,
        headers: joined(config.headers),
        exposed_headers: joined(config.exposed_headers),
        // A list that is there but empty allows none; `null` stands for all.
        methods: config.methods.map_or_else(|| ALL_METHODS.to_owned(), |list| list.join(",")),
        max_age: config.max_age.map(|seconds| seconds.to_string()),
        credentials: config.credentials,
        private_network: config.private_network,
        preflight_continue: config.preflight_continue,
        allow_origin_absent: config.allow_origin_absent,
    }))
}

const ALL_METHODS: &str = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT";

struct Cors {
    origins: Origins,
    headers: Option<String>,
    exposed_headers: Option<String>,
    methods: String,
    max_age: Option<String>,
    credentials: bool,
    private_network: bool,
    preflight_continue: bool,
    allow_origin_absent: bool,
}

impl Plugin for Cors {
    fn phases(&self) -> Phases {
        Phases::ACCESS.and(Phases::RESPONSE)
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let asked = &exchange.head.headers;
        let is_preflight = exchange.head.method == Method::OPTIONS
            && origin(asked).is_some()
            && asked.contains("access-control-request-method");
        if !is_preflight {
            return Access::Continue;
        }
        let answer = (!self.preflight_continue).then(|| self.answer_preflight(asked));
        exchange.follow(Box::new(Untouched));
        answer.map_or(Access::Continue, Access::Answer)
    }

    fn response(&self, exchange: &mut Exchange, response: &mut Response) -> Option<Box<dyn ResponseFilter>> {
        let origin = origin(&exchange.head.headers);
        if origin.is_some() || self.allow_origin_absent {
            let headers = &mut response.headers;
            self.allow_origin(origin, headers);
            if let Some(exposed) = &self.exposed_headers {
                headers.set("Access-Control-Expose-Headers", exposed);
            }
        }
        None
    }
}

/// Leaves an answer alone: a preflight's, which has its headers already, or gets the upstream's.
struct Untouched;

impl ResponseFilter for Untouched {
    fn keeps_length(&self) -> bool {
        true
    }
}

/// The origin a request names.
fn origin(headers: &Headers) -> Option<&[u8]> {
    headers.get("origin").filter(|origin| !origin.is_empty())
}

impl Cors {
    fn answer_preflight(&self, asked: &Headers) -> Response {
        let mut response = Response::new(StatusCode::OK);
        let headers = &mut response.headers;
        self.allow_origin(origin(asked), headers);
        // One line says it, as nothing else of the answer varies.
        if headers.contains("Vary") {
            headers.set("Vary", "Origin");
        }
        if let Some(allowed) =
            self.headers.as_deref().map(str::as_bytes).or(asked.get("access-control-request-headers"))
        {
            headers.set("Access-Control-Allow-Headers", allowed);
        }
        headers.set("Access-Control-Allow-Methods", &self.methods);
        if let Some(seconds) = &self.max_age {
            headers.set("Access-Control-Max-Age", seconds);
        }
        if self.private_network && asked.get("access-control-request-private-network") == Some(b"true") {
            headers.set("Access-Control-Allow-Private-Network", "true");
        }
        response
    }

    /// Sets which origin may read the answer, and whether with credentials.
    fn allow_origin(&self, origin: Option<&[u8]>, headers: &mut Headers) {
        if self.origins.vary() {
            headers.append("Vary", "Origin");
        }
        let allowed = self.origins.allow(origin);
        match &allowed {
            Allowed::All => headers.set("Access-Control-Allow-Origin", "*"),
            Allowed::One(origin) => headers.set("Access-Control-Allow-Origin", origin.as_bytes()),
            Allowed::None => {
                headers.remove("Access-Control-Allow-Origin");
            }
        }
        if !self.credentials {
            return;
        }
        match (allowed, origin) {
            // Credentials do not go with `*`: the origin itself is named.
            (Allowed::All, Some(origin)) => {
                headers.append("Vary", "Origin");
                headers.set("Access-Control-Allow-Origin", origin);
                headers.set("Access-Control-Allow-Credentials", "true");
            }
            (Allowed::All, None) => {}
            (Allowed::One(_) | Allowed::None, _) => headers.set("Access-Control-Allow-Credentials", "true"),
        }
    }
}
