//! Checks of values beyond their type.

use super::Configuration;
use super::values::is_header_name;

impl Configuration {
    /// Values that must be one of a few.
    pub(super) fn check_choices(&self, errors: &mut Vec<String>) {
        const SWITCH: &[&str] = &["on", "off", "true", "false", "yes", "no", "1", "0"];
        let choices: [(&str, &[&str]); 9] = [
            ("real_ip_recursive", SWITCH),
            ("allow_debug_header", SWITCH),
            ("tls_certificate_verify", SWITCH),
            ("untrusted_lua", &["off", "sandbox", "on"]),
            (
                "error_default_type",
                &["application/grpc", "application/json", "application/xml", "text/html", "text/plain"],
            ),
            // What Kong can be besides, and Tollgate cannot yet: better said than ignored.
            ("role", &["traditional"]),
            ("router_flavor", &["traditional_compatible", "traditional"]),
            ("stream_listen", &["off"]),
            ("konnect_mode", &["off"]),
        ];
        for (name, allowed) in choices {
            if let Some(value) = self.get(name).filter(|value| !allowed.contains(value)) {
                errors.push(format!(
                    "{}: expected one of {}, found '{value}'",
                    self.origin(name),
                    allowed.join(", ")
                ));
            }
        }
    }

    /// Lists of a few words, names of headers, and properties that count only together.
    pub(super) fn check_together(&self, errors: &mut Vec<String>) {
        for item in self.list("headers_upstream") {
            if !["x-kong-request-id", "off"].contains(&item.to_ascii_lowercase().as_str()) {
                let origin = self.origin("headers_upstream");
                errors.push(format!("{origin}: expected X-Kong-Request-Id or off, found '{item}'"));
            }
        }
        let protocols = self.get("ssl_protocols").unwrap_or_default();
        let known = |name: &&str| matches!(*name, "TLSv1" | "TLSv1.1" | "TLSv1.2" | "TLSv1.3");
        if let Some(unknown) = protocols.split_whitespace().find(|name| !known(name)) {
            let origin = self.origin("ssl_protocols");
            errors.push(format!("{origin}: expected TLSv1.2 or TLSv1.3, found '{unknown}'"));
        } else if !protocols.contains("TLSv1.2") && !protocols.contains("TLSv1.3") {
            let origin = self.origin("ssl_protocols");
            errors.push(format!("{origin}: TLSv1.2 or TLSv1.3 must be among them, found '{protocols}'"));
        }
        let header = self.get("real_ip_header").unwrap_or_default();
        if header != "proxy_protocol" && !is_header_name(header) {
            let origin = self.origin("real_ip_header");
            errors.push(format!("{origin}: expected the name of a header, found '{header}'"));
        }
        let pairs = [("ssl_cert", "ssl_cert_key", false), ("client_ssl_cert", "client_ssl_cert_key", true)];
        for (certificate, key, client) in pairs {
            let (found, other) = (self.get(certificate), self.get(key));
            match (found, other) {
                _ if client && !self.flag("client_ssl") => {}
                (Some(_), None) => {
                    errors.push(format!("{}: {key} must be set too", self.origin(certificate)))
                }
                (None, Some(_)) => {
                    errors.push(format!("{}: {certificate} must be set too", self.origin(key)))
                }
                (None, None) if client => {
                    errors.push(format!("{}: client_ssl_cert must be set too", self.origin("client_ssl")));
                }
                _ => {}
            }
        }
    }
}
