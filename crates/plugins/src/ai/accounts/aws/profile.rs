//! AWS's shared files: profiles in `~/.aws/credentials` and `~/.aws/config`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::super::renewed::Lease;
use super::super::{AccountError, Variables, environment};
use super::{AwsAccount, AwsKeys, Environment, FILES_AGAIN, Role, SESSION, WebIdentity};

/// A profile, and the files it may stand in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Profile {
    name: String,
    /// Whether the environment names it: then it must be there.
    is_named: bool,
    credentials: Option<PathBuf>,
    config: Option<PathBuf>,
}

/// Members of a profile.
type Section = HashMap<String, String>;
type Sections = HashMap<String, Section>;

/// How a profile gets its keys: from somewhere, then through roles.
#[derive(PartialEq)]
struct Plan {
    base: Base,
    /// In the order in which they are assumed.
    roles: Vec<Role>,
}

#[derive(PartialEq)]
enum Base {
    Keys(AwsKeys),
    WebIdentity(WebIdentity),
    Environment,
    Container,
    Instance,
}

impl Profile {
    /// The environment's; `None` where it names no file and there is no home.
    pub(super) fn new(variable: Variables<'_>) -> Option<Self> {
        let home = variable("HOME").map(PathBuf::from);
        let file = |name: &str, own: &str| {
            let named = variable(name).map(|path| match (path.strip_prefix("~/"), &home) {
                (Some(below), Some(home)) => home.join(below),
                _ => path.into(),
            });
            named.or_else(|| home.as_ref().map(|home| home.join(".aws").join(own)))
        };
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        let config = file("AWS_CONFIG_FILE", "config");
        let named = variable("AWS_PROFILE").or_else(|| variable("AWS_DEFAULT_PROFILE"));
        let is_named = named.is_some();
        let name = named.unwrap_or_else(|| "default".to_owned());
        (is_named || credentials.is_some() || config.is_some()).then_some(Self {
            name,
            is_named,
            credentials,
            config,
        })
    }

    /// The profile's keys; `None` where it says nothing of keys and is not asked for by name.
    pub(super) async fn keys(&self, account: &AwsAccount) -> Result<Option<Lease<AwsKeys>>, AccountError> {
        let sections = self.read()?;
        let Some(plan) = plan(&sections, &self.name)? else {
            return match self.is_named {
                true => Err(AccountError(format!(
                    "AWS_PROFILE names the profile '{}', which is not in AWS's files or has no keys there",
                    self.name
                ))),
                false => Ok(None),
            };
        };
        let of_environment = Environment { variable: &environment };
        let missing = |what: &str| {
            AccountError(format!("the profile '{}' wants keys of the {what}, which has none", self.name))
        };
        let mut lease = match plan.base {
            Base::Keys(keys) => Lease::without_end(keys, FILES_AGAIN),
            Base::WebIdentity(identity) => account.sts.assume_with_web_identity(&identity).await?,
            Base::Environment => {
                let keys = of_environment.keys().ok_or_else(|| missing("environment"))?;
                Lease::without_end(keys, FILES_AGAIN)
            }
            Base::Container => of_environment.container().ok_or_else(|| missing("container"))?.keys().await?,
            Base::Instance => of_environment.instance().ok_or_else(|| missing("instance"))?.keys().await?,
        };
        for role in &plan.roles {
            lease = account.sts.assume(role, &lease.into_credential()).await?;
        }
        Ok(Some(lease))
    }

    /// Both files; what stands in the file of credentials wins.
    fn read(&self) -> Result<Sections, AccountError> {
        let mut sections = Sections::new();
        if let Some(text) = self.config.as_deref().map(text_of).transpose()?.flatten() {
            parse(&text, true, &mut sections);
        }
        if let Some(text) = self.credentials.as_deref().map(text_of).transpose()?.flatten() {
            parse(&text, false, &mut sections);
        }
        Ok(sections)
    }
}

/// A file's text; `None` where there is none.
fn text_of(path: &Path) -> Result<Option<String>, AccountError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AccountError(format!("{}: {error}", path.display()))),
    }
}

/// Reads sections of `name = value`. In the file of configuration, profiles but the default one are called
/// `profile name`; its other sections are none of ours.
fn parse(text: &str, is_config: bool, sections: &mut Sections) {
    let mut current: Option<String> = None;
    for line in text.lines() {
        // Lines that are set in belong to the member before them, of which none is ours.
        if line.starts_with(['#', ';', ' ', '\t']) {
            continue;
        }
        let line = line.split(" #").next().unwrap_or_default();
        let line = line.split(" ;").next().unwrap_or_default().trim();
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let title = title.trim();
            let name = match is_config {
                true => title.strip_prefix("profile ").or((title == "default").then_some(title)),
                false => Some(title),
            };
            current = name.map(|name| name.trim().to_owned());
        } else if let (Some(name), Some((member, value))) = (&current, line.split_once('=')) {
            let section = sections.entry(name.clone()).or_default();
            section.insert(member.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
}

/// How the profile `name` gets its keys; `None` where it says nothing of that.
fn plan(sections: &Sections, name: &str) -> Result<Option<Plan>, AccountError> {
    let mut roles = Vec::new();
    let mut seen = vec![name];
    let mut name = name;
    let base = loop {
        let wrong = |what: &str| AccountError(format!("AWS's profile '{name}' {what}"));
        let Some(section) = sections.get(name) else {
            return match roles.is_empty() {
                true => Ok(None),
                false => Err(wrong("is named as a source and is nowhere")),
            };
        };
        let text = |member: &str| section.get(member).map(String::as_str).filter(|text| !text.is_empty());
        let keys = || {
            let (id, secret) = (text("aws_access_key_id")?, text("aws_secret_access_key")?);
            Some(Base::Keys(AwsKeys::new(id, secret, text("aws_session_token"))))
        };
        let session = || text("role_session_name").unwrap_or(SESSION).to_owned();
        let Some(arn) = text("role_arn") else {
            match keys() {
                Some(keys) => break keys,
                None if text("credential_process").is_some() => {
                    return Err(wrong("has a credential_process, which is not run here"));
                }
                None if text("sso_session").or(text("sso_start_url")).is_some() => {
                    return Err(wrong("signs on for people (sso), which a gateway cannot do"));
                }
                None if roles.is_empty() => return Ok(None),
                None => return Err(wrong("is named as a source and has no keys")),
            }
        };
        if let Some(file) = text("web_identity_token_file") {
            break Base::WebIdentity(WebIdentity {
                token_file: file.into(),
                role_arn: arn.to_owned(),
                session: session(),
            });
        }
        let external_id = text("external_id").map(str::to_owned);
        roles.push(Role { arn: arn.to_owned(), session: session(), external_id });
        match (text("source_profile"), text("credential_source")) {
            (Some(source), _) if source == name => {
                break keys().ok_or_else(|| wrong("names itself as a source and has no keys"))?;
            }
            (Some(source), _) if seen.contains(&source) => {
                return Err(wrong("is its own source in the end"));
            }
            (Some(source), _) => {
                seen.push(source);
                name = source;
            }
            (None, Some("Environment")) => break Base::Environment,
            (None, Some("EcsContainer")) => break Base::Container,
            (None, Some("Ec2InstanceMetadata")) => break Base::Instance,
            (None, Some(_)) => {
                return Err(wrong(
                    "has an unknown credential_source; expected Environment, EcsContainer or Ec2InstanceMetadata",
                ));
            }
            (None, None) => {
                return Err(wrong("has a role_arn and neither source_profile nor credential_source"));
            }
        }
    };
    roles.reverse();
    Ok(Some(Plan { base, roles }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
[default]
region = eu-west-1
[profile plain]
aws_access_key_id = config-id
aws_secret_access_key = config-secret
s3 =
  max_concurrent_requests = 20
[profile role]
role_arn = arn:role
source_profile = plain
external_id = x ; why
[ profile  chain ]
ROLE_ARN = arn:chain
role_session_name = s
source_profile = role
[profile itself]
role_arn = arn:itself
source_profile = itself
aws_access_key_id = i
aws_secret_access_key = s
[profile instance]
role_arn = arn:i
credential_source = Ec2InstanceMetadata
[profile web]
role_arn = arn:w
web_identity_token_file = /t
[profile around]
role_arn = arn:a
source_profile = about
[profile about]
role_arn = arn:b
source_profile = around
[profile process]
credential_process = /bin/x
[profile sso]
sso_session = x
[profile lonely]
role_arn = arn:l
[profile lost]
role_arn = arn:l
source_profile = nowhere
[profile odd]
role_arn = arn:l
credential_source = Moon
[sso-session plain2]
aws_access_key_id = no
";
    const CREDENTIALS: &str = "
# a comment
[plain]
aws_access_key_id=own-id
aws_secret_access_key = own-secret
aws_session_token = token
[profile odd name]
aws_access_key_id=1
aws_secret_access_key=2
";

    #[test]
    fn plans() {
        let mut sections = Sections::new();
        parse(CONFIG, true, &mut sections);
        parse(CREDENTIALS, false, &mut sections);
        for (name, expected) in [
            ("plain", "own-id/own-secret/token"),
            ("role", "own-id/own-secret/token > arn:role tollgate x"),
            ("chain", "own-id/own-secret/token > arn:role tollgate x > arn:chain s"),
            ("itself", "i/s > arn:itself tollgate"),
            ("instance", "instance > arn:i tollgate"),
            ("web", "web /t arn:w"),
            ("default", "-"),
            ("nowhere", "-"),
            ("plain2", "-"),
            ("profile odd name", "1/2"),
            ("around", "AWS's profile 'about' is its own source in the end"),
            ("process", "AWS's profile 'process' has a credential_process, which is not run here"),
            ("sso", "AWS's profile 'sso' signs on for people (sso), which a gateway cannot do"),
            (
                "lonely",
                "AWS's profile 'lonely' has a role_arn and neither source_profile nor credential_source",
            ),
            ("lost", "AWS's profile 'nowhere' is named as a source and is nowhere"),
            (
                "odd",
                "AWS's profile 'odd' has an unknown credential_source; expected Environment, EcsContainer or Ec2InstanceMetadata",
            ),
        ] {
            assert_eq!(described(plan(&sections, name)), expected, "{name}");
        }
    }

    fn described(plan: Result<Option<Plan>, AccountError>) -> String {
        let plan = match plan {
            Err(error) => return error.to_string(),
            Ok(None) => return "-".to_owned(),
            Ok(Some(plan)) => plan,
        };
        let base = match &plan.base {
            Base::Keys(keys) => {
                let token = keys.token.as_ref().map(|token| format!("/{}", token.expose()));
                format!("{}/{}{}", keys.id, keys.secret.expose(), token.unwrap_or_default())
            }
            Base::WebIdentity(identity) => {
                format!("web {} {}", identity.token_file.display(), identity.role_arn)
            }
            Base::Environment => "environment".to_owned(),
            Base::Container => "container".to_owned(),
            Base::Instance => "instance".to_owned(),
        };
        let role = |role: &Role| {
            let id = role.external_id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
            format!(" > {} {}{id}", role.arn, role.session)
        };
        base + &plan.roles.iter().map(role).collect::<String>()
    }

    #[test]
    fn files() {
        for (variables, expected) in [
            ("", None),
            ("HOME=/h", Some(("default", false, "/h/.aws/credentials", "/h/.aws/config"))),
            ("HOME=/h AWS_PROFILE=p", Some(("p", true, "/h/.aws/credentials", "/h/.aws/config"))),
            (
                "HOME=/h AWS_DEFAULT_PROFILE=p AWS_SHARED_CREDENTIALS_FILE=~/c AWS_CONFIG_FILE=/e/c",
                Some(("p", true, "/h/c", "/e/c")),
            ),
        ] {
            let variable = |name: &str| {
                let mut pairs = variables.split(' ').filter_map(|pair| pair.split_once('='));
                pairs.find(|(other, _)| *other == name).map(|(_, value)| value.to_owned())
            };
            let expected =
                expected.map(|(name, is_named, credentials, config): (&str, _, &str, &str)| Profile {
                    name: name.to_owned(),
                    is_named,
                    credentials: Some(credentials.into()),
                    config: Some(config.into()),
                });
            assert_eq!(Profile::new(&variable), expected, "{variables}");
        }
    }
}
