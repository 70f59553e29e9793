//! AWS signatures, version 4.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;

/// Why a request cannot be signed.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be signed for AWS: {0}")]
pub struct SigningError(String);

/// Signs with one account's keys.
#[derive(Debug)]
pub struct Signer {
    credentials: Credentials,
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct ToSign<'a> {
    /// Method.
    pub method: &'a str,
    /// `Host` as it is sent.
    pub host: &'a str,
    /// Path as it is sent; there is no query.
    pub path: &'a str,
    /// Body as it is sent.
    pub body: &'a [u8],
    /// AWS region.
    pub region: &'a str,
    /// AWS's name for the service, such as `bedrock`.
    pub service: &'a str,
}

impl Signer {
    /// A signer with these keys; temporary ones have a session token.
    pub fn new(key_id: &str, secret: &str, session_token: Option<&str>) -> Self {
        let token = session_token.map(str::to_owned);
        Self { credentials: Credentials::new(key_id, secret, token, None, "tollgate") }
    }

    /// Header fields that sign a request at `now`. Nothing but host, time, session token and body is signed, so other
    /// fields may change on the way.
    ///
    /// # Errors
    /// A host or path that cannot be part of a URL.
    pub fn sign(
        &self,
        request: &ToSign<'_>,
        now: SystemTime,
    ) -> Result<Vec<(&'static str, String)>, SigningError> {
        let failed = |error: &dyn std::fmt::Display| SigningError(error.to_string());
        let identity = self.credentials.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(request.region)
            .name(request.service)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(&error))?;
        let url = format!("https://{}{}", request.host, request.path);
        let signable = SignableRequest::new(
            request.method,
            url,
            std::iter::once(("host", request.host)),
            SignableBody::Bytes(request.body),
        )
        .map_err(|error| failed(&error))?;
        let (signed, _) = sign(signable, &params.into()).map_err(|error| failed(&error))?.into_parts();
        let (headers, _) = signed.into_parts();
        Ok(headers.into_iter().map(|header| (header.name(), header.value().to_owned())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SCOPE: &str = "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";

    /// AWS's published examples (`get-vanilla`, `post-vanilla`, `post-sts-header-before`).
    #[test]
    fn published_examples() {
        const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        for (method, token, fields, signature) in [
            (
                "GET",
                None,
                "host;x-amz-date",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "POST",
                None,
                "host;x-amz-date",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "POST",
                Some(TOKEN),
                "host;x-amz-date;x-amz-security-token",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ] {
            let signer = Signer::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token);
            let request = ToSign {
                method,
                host: "example.amazonaws.com",
                path: "/",
                body: b"",
                region: "us-east-1",
                service: "service",
            };
            let headers = signer.sign(&request, at).unwrap();
            let field = |name: &str| {
                headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
            };
            let expected = format!("AWS4-HMAC-SHA256 {SCOPE}, SignedHeaders={fields}, Signature={signature}");
            assert_eq!(field("authorization"), Some(&*expected));
            assert_eq!(field("x-amz-date"), Some("20150830T123600Z"));
            assert_eq!(field("x-amz-security-token"), token);
            assert!(!format!("{signer:?}").contains("wJalr"));
        }
    }
}
