//! Who may ask which target (Kong 3.14: `acls`).

use std::net::IpAddr;

use ipnet::IpNet;
use tollgate_gateway::{BuildError, Exchange};
use tollgate_http::StatusCode;

use super::config::{AclCondition, AclRule, Acls};
use crate::ai::attribute::Attribute;
use crate::ai::target::{Policy, Refusal, Target};

/// Rules of who may ask which target.
pub(super) struct Acl {
    /// Where there are any, one of them has to apply.
    allow: Option<Vec<Rule>>,
    /// None of them may apply.
    deny: Vec<Rule>,
}

/// Applies where all its conditions hold.
struct Rule(Vec<Condition>);

/// Holds where one of the attributes has a value that is accepted.
struct Condition {
    attributes: Vec<Attribute>,
    accepted: Accepted,
}

enum Accepted {
    Values(Vec<String>),
    Networks(Vec<IpNet>),
}

impl Acl {
    /// Compiles what is configured.
    ///
    /// # Errors
    /// What cannot be looked at, and where.
    pub(super) fn new(config: &Acls) -> Result<Self, BuildError> {
        let rules = |rules: &[AclRule], field: &str| -> Result<Vec<Rule>, BuildError> {
            let compile = |(index, rule): (usize, &AclRule)| {
                let field = format!("config.acls.{field}[{}]", index + 1);
                let conditions = rule.r#match.iter().enumerate();
                let conditions = conditions
                    .map(|(index, config)| Condition::new(config, &format!("{field}.match[{}]", index + 1)));
                conditions.collect::<Result<_, _>>().map(Rule)
            };
            rules.iter().enumerate().map(compile).collect()
        };
        Ok(Self {
            allow: config.allow.as_deref().map(|allow| rules(allow, "allow")).transpose()?,
            deny: rules(config.deny.as_deref().unwrap_or_default(), "deny")?,
        })
    }

    /// Whether a request may go to a target.
    pub(super) fn permits(
        &self,
        exchange: &Exchange,
        body: Option<&[u8]>,
        target: &Target,
        policy: &Policy,
    ) -> bool {
        let models = target.models(exchange, body, policy);
        let applies = |rule: &Rule| rule.applies(exchange, &models, target.llm_provider());
        !self.deny.iter().any(applies) && self.allow.as_ref().is_none_or(|allow| allow.iter().any(applies))
    }
}

/// Told to who may go to no target (status and words of Kong's `acl` plugin).
pub(super) fn denial() -> Refusal {
    Refusal { status: StatusCode::FORBIDDEN, message: "You cannot consume this service".to_owned() }
}

impl Rule {
    fn applies(&self, exchange: &Exchange, models: &[String], provider: &str) -> bool {
        self.0.iter().all(|condition| condition.holds(exchange, models, provider))
    }
}

impl Condition {
    fn new(config: &AclCondition, field: &str) -> Result<Self, BuildError> {
        let key = config.key.as_deref();
        let attributes = match (&*config.r#type, key) {
            ("consumer", None) => vec![Attribute::ConsumerId, Attribute::ConsumerUsername],
            (kind, key) => vec![Attribute::new(kind, key, field)?],
        };
        let accepted = match &*attributes {
            [Attribute::Ip] => {
                let network = |(index, value): (usize, &String)| {
                    let network = value.parse().or_else(|_| value.parse::<IpAddr>().map(IpNet::from));
                    network.map_err(|_| BuildError {
                        field: format!("{field}.values[{}]", index + 1),
                        message: format!("'{value}' is no address, and no network such as 10.0.0.0/8"),
                    })
                };
                let networks = config.values.iter().enumerate().map(network);
                Accepted::Networks(networks.collect::<Result<_, _>>()?)
            }
            _ => Accepted::Values(config.values.clone()),
        };
        Ok(Self { attributes, accepted })
    }

    fn holds(&self, exchange: &Exchange, models: &[String], provider: &str) -> bool {
        let values = match &self.accepted {
            Accepted::Values(values) => values,
            Accepted::Networks(networks) => {
                return networks.iter().any(|network| network.contains(&exchange.client_ip));
            }
        };
        let is_accepted = |value: &str| values.iter().any(|accepted| accepted == value);
        self.attributes.iter().any(|attribute| match attribute {
            Attribute::Model => models.iter().any(|model| is_accepted(model)),
            other => other.find(exchange, None, Some(provider), is_accepted).is_some(),
        })
    }
}
