//! When another target is tried (`failover_criteria`), and what counts as a failure of one.

use tollgate_gateway::attempts::Ended;
use tollgate_http::Method;
use tollgate_http::client::SendErrorKind;

/// What makes the next target be tried.
#[derive(Debug, Default)]
pub(super) struct Criteria {
    error: bool,
    timeout: bool,
    invalid_header: bool,
    /// Requests that are not idempotent are tried again after they were sent.
    non_idempotent: bool,
    statuses: Vec<u16>,
}

impl Criteria {
    /// Of their names.
    pub(super) fn new(names: &[String]) -> Self {
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        Self {
            error: has("error"),
            timeout: has("timeout"),
            invalid_header: has("invalid_header"),
            non_idempotent: has("non_idempotent"),
            statuses: names
                .iter()
                .filter_map(|name| name.strip_prefix("http_"))
                .filter_map(|status| status.parse().ok())
                .collect(),
        }
    }

    /// Whether the target has failed (Kong 3.15: where it gave no answer, whatever the criteria are; with a status
    /// among them that is not the client's fault).
    pub(super) fn is_failure(&self, ended: &Ended) -> bool {
        match ended {
            Ended::Answered(response) => {
                let status = response.status.as_u16();
                self.statuses.contains(&status) && !matches!(status, 403 | 404)
            }
            Ended::Failed(error) => Reason::of(error.kind).is_some(),
            Ended::Nobody(_) => true,
        }
    }

    /// Whether another target may be tried after an attempt that ended so (nginx: `proxy_next_upstream`).
    pub(super) fn allow_another(&self, ended: &Ended, method: &Method) -> bool {
        let idempotent = !matches!(*method, Method::POST | Method::PATCH) && method.as_str() != "LOCK";
        let may_repeat = idempotent || self.non_idempotent;
        match ended {
            Ended::Answered(response) => may_repeat && self.statuses.contains(&response.status.as_u16()),
            Ended::Failed(error) => {
                !error.body_lost
                    && (may_repeat || !error.request_sent)
                    && match Reason::of(error.kind) {
                        Some(Reason::Error) => self.error,
                        Some(Reason::Timeout) => self.timeout,
                        Some(Reason::InvalidHeader) => self.invalid_header,
                        None => false,
                    }
            }
            Ended::Nobody(_) => self.error,
        }
    }
}

/// Why there is no answer.
enum Reason {
    Error,
    Timeout,
    InvalidHeader,
}

impl Reason {
    /// `None` where the client is to blame.
    fn of(kind: SendErrorKind) -> Option<Self> {
        match kind {
            SendErrorKind::Connect | SendErrorKind::Tls | SendErrorKind::Closed => Some(Self::Error),
            SendErrorKind::ConnectTimeout | SendErrorKind::WriteTimeout | SendErrorKind::ReadTimeout => {
                Some(Self::Timeout)
            }
            SendErrorKind::Malformed => Some(Self::InvalidHeader),
            SendErrorKind::Body
            | SendErrorKind::BodyTooLarge
            | SendErrorKind::BodyTimeout
            | SendErrorKind::InvalidRequest => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_http::client::SendError;
    use tollgate_http::{Response, StatusCode};

    fn answered(status: u16) -> Ended {
        Ended::Answered(Response::new(StatusCode::from_u16(status).unwrap()))
    }

    fn failed(kind: SendErrorKind, request_sent: bool) -> Ended {
        let reason = String::new();
        Ended::Failed(SendError { kind, request_sent, reused: false, body_lost: false, reason })
    }

    #[test]
    fn what_is_tried_again() {
        use SendErrorKind::*;
        let all = ["error", "timeout", "invalid_header", "http_429", "http_403", "non_idempotent"];
        for (names, ended, post, get) in [
            (&["error", "timeout"][..], failed(Connect, false), true, true),
            (&["error", "timeout"], failed(Closed, true), false, true),
            (&["error", "non_idempotent"], failed(Closed, true), true, true),
            (&["error", "timeout"], failed(ReadTimeout, true), false, true),
            (&["error"], failed(ConnectTimeout, false), false, false),
            (&["error"], Ended::Nobody(""), true, true),
            (&["timeout"], Ended::Nobody(""), false, false),
            (&["error", "timeout"], failed(Malformed, true), false, false),
            (&all, failed(Malformed, true), true, true),
            (&all, failed(Body, true), false, false),
            (&all, answered(429), true, true),
            (&["http_429"], answered(429), false, true),
            (&all, answered(403), true, true),
            (&all, answered(500), false, false),
            (&all, answered(200), false, false),
        ] {
            let criteria = Criteria::new(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            assert_eq!(criteria.allow_another(&ended, &Method::POST), post, "{names:?}");
            assert_eq!(criteria.allow_another(&ended, &Method::GET), get, "{names:?}");
        }
    }

    #[test]
    fn what_counts_as_a_failure() {
        let criteria = Criteria::new(&["http_429".to_owned(), "http_403".to_owned()]);
        for (ended, expected) in [
            (failed(SendErrorKind::Connect, false), true),
            (failed(SendErrorKind::Malformed, true), true),
            (failed(SendErrorKind::BodyTimeout, true), false),
            (Ended::Nobody(""), true),
            (answered(429), true),
            (answered(403), false),
            (answered(500), false),
        ] {
            assert_eq!(criteria.is_failure(&ended), expected);
        }
    }
}
