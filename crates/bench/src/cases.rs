//! The work that is measured, and how each proxy is told to do it.

use crate::provider::Provider;

/// Key of the consumer with this number.
pub fn key(number: usize) -> String {
    format!("key-{number:016x}")
}

/// One kind of work.
pub struct Case {
    /// Name on the command line and in the report.
    pub name: &'static str,
    /// Consumers with a key; 0 for no authentication.
    pub consumers: usize,
    /// Who answers the chat that the request is, in OpenAI's format; its JSON is rewritten for them. `None` where
    /// it is no chat.
    pub chat: Option<Provider>,
    /// Whether the answer is a stream of events.
    pub streamed: bool,
    /// What the work may cost.
    pub bound: Option<Bound>,
}

/// The most CPU that something may cost: a ratio.
pub enum Bound {
    /// To nginx doing the same.
    Nginx(f64),
    /// To Tollgate where the provider speaks the client's format.
    SameFormat(f64),
}

/// All cases.
pub fn all() -> Vec<Case> {
    let case = |name, consumers, chat, streamed, bound| Case { name, consumers, chat, streamed, bound };
    let key_auth = |name, consumers| case(name, consumers, None, false, Some(Bound::Nginx(1.0)));
    let chat = |name, provider, bound| case(name, 10_000, Some(provider), false, bound);
    let stream = |name, provider, bound| case(name, 10_000, Some(provider), true, Some(bound));
    vec![
        case("get", 0, None, false, None),
        key_auth("key-auth-10k", 10_000),
        key_auth("key-auth-1m", 1_000_000),
        chat("chat", Provider::OpenAi, Some(Bound::Nginx(0.85))),
        chat("chat-to-anthropic", Provider::Anthropic, None),
        chat("chat-to-bedrock", Provider::Bedrock, None),
        stream("sse", Provider::OpenAi, Bound::Nginx(1.1)),
        stream("sse-to-anthropic", Provider::Anthropic, Bound::SameFormat(2.0)),
        stream("sse-to-bedrock", Provider::Bedrock, Bound::SameFormat(2.0)),
    ]
}

const CHAT: &str = r#"{"messages":[{"role":"system","content":"You are a careful assistant who answers briefly and to the point, names sources where there are any, and says so where a question cannot be answered from what is known."},{"role":"user","content":"Who is Jimi Hendrix, where was he born, which records did he make with the Experience, and which guitars did he play on them? Give the answer as a short list with a line for each record, in the order in which they appeared."}],"max_tokens":256,"top_p":0.9,"user":"bench-user-1","metadata":{"team":"bench","ticket":"none"}"#;

impl Case {
    /// The same work where nothing is converted, if anything is: the client's format is OpenAI's.
    pub fn same_format(&self) -> Option<Self> {
        let converts = self.chat.is_some_and(|provider| provider != Provider::OpenAi);
        converts.then_some(Self {
            name: if self.streamed { "sse" } else { "chat" },
            chat: Some(Provider::OpenAi),
            bound: None,
            ..*self
        })
    }

    /// Requests a connection of the load sends in turn; different keys, so that look-ups miss caches as they
    /// do in life.
    pub fn requests(&self, connection: usize) -> Vec<Vec<u8>> {
        (0..16)
            .map(|turn| {
                let mut head = String::from(if self.chat.is_some() {
                    "POST /bench HTTP/1.1\r\n"
                } else {
                    "GET /bench HTTP/1.1\r\n"
                });
                head.push_str("Host: bench.local\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n");
                if self.consumers > 0 {
                    let number = (connection * 7919 + turn * 104_729) % self.consumers;
                    head.push_str(&format!("apikey: {}\r\n", key(number)));
                }
                let mut body = String::new();
                if self.chat.is_some() {
                    body.push_str(CHAT);
                    body.push_str(if self.streamed { ",\"stream\":true}" } else { "}" });
                    head.push_str(&format!(
                        "Content-Type: application/json\r\nContent-Length: {}\r\n",
                        body.len()
                    ));
                }
                format!("{head}\r\n{body}").into_bytes()
            })
            .collect()
    }

    /// A request that must be refused with 401, where there are keys.
    pub fn refused_request(&self) -> Option<Vec<u8>> {
        (self.consumers > 0)
            .then(|| b"GET /bench HTTP/1.1\r\nHost: bench.local\r\napikey: nope\r\n\r\n".to_vec())
    }

    /// nginx doing this work: a map of keys, consumer headers, and Lua with cjson for the rewriting. It converts
    /// nothing: what another provider answers passes.
    pub fn nginx(&self, port: u16, upstream: u16, folder: &str) -> String {
        let lua = self.chat.is_some();
        let modules = if lua {
            "load_module /usr/lib/nginx/modules/ndk_http_module.so;\nload_module /usr/lib/nginx/modules/ngx_http_lua_module.so;\n"
        } else {
            ""
        };
        let lua_http = if lua {
            "lua_package_cpath '/usr/lib/x86_64-linux-gnu/lua/5.1/?.so;;';\ninit_by_lua_block { cjson = require 'cjson' }\n"
        } else {
            ""
        };
        let map = if self.consumers > 0 {
            format!(
                "map_hash_max_size 4194304; map_hash_bucket_size 128;\nmap $http_apikey $consumer {{ default ''; include {folder}/keys.map; }}\n"
            )
        } else {
            String::new()
        };
        let refuse = if self.consumers > 0 {
            "if ($consumer = '') { return 401 '{\"message\":\"Unauthorized\"}'; }\nproxy_set_header X-Consumer-Username $consumer;\nproxy_set_header X-Consumer-ID $consumer;\n"
        } else {
            ""
        };
        let rewrite = if lua {
            r#"
      access_by_lua_block {
        ngx.req.read_body()
        local body = cjson.decode(ngx.req.get_body_data())
        body.model = 'gpt-4.1'
        body.temperature = 1.0
        ngx.req.set_body_data(cjson.encode(body))
        ngx.req.set_header('Authorization', 'Bearer bench')
      }"#
        } else {
            ""
        };
        let buffering = if self.streamed { "proxy_buffering off;" } else { "" };
        let target = self.chat.map_or("/", |provider| provider.path(self.streamed));
        format!(
            "{modules}worker_processes 1;\ndaemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\nevents {{ worker_connections 4096; }}\nhttp {{\n\
             access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_body_buffer_size 64k;\n\
             client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
             {lua_http}{map}upstream backend {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{port} backlog=4096; default_type application/json;\n location /bench {{ {refuse}{rewrite}\n {buffering}\n\
             proxy_pass http://backend{target}; proxy_http_version 1.1; proxy_set_header Connection '';\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Real-IP $remote_addr;\n\
             proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host; }} }} }}\n"
        )
    }

    /// The map of keys that the nginx configuration includes.
    pub fn nginx_keys(&self) -> String {
        (0..self.consumers).map(|number| format!("{} user{number};\n", key(number))).collect()
    }

    /// The declarative configuration with which Tollgate does this work, as JSON.
    pub fn tollgate(&self, upstream: u16) -> String {
        let mut plugins = Vec::new();
        if self.consumers > 0 {
            plugins.push(serde_json::json!({"name": "key-auth"}));
        }
        if let Some(provider) = self.chat {
            let (auth, model) = provider.configured(upstream);
            plugins.push(serde_json::json!({"name": "ai-proxy", "config": {
                "route_type": "llm/v1/chat", "auth": auth, "model": model
            }}));
        }
        let consumers: Vec<_> = (0..self.consumers)
            .map(|number| serde_json::json!({"username": format!("user{number}"), "keyauth_credentials": [{"key": key(number)}]}))
            .collect();
        serde_json::json!({
            "_format_version": "3.0",
            "services": [{
                "name": "bench", "url": format!("http://127.0.0.1:{upstream}/"),
                "routes": [{"name": "bench", "paths": ["/bench"], "plugins": plugins}]
            }],
            "consumers": consumers
        })
        .to_string()
    }
}
