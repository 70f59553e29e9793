//! A gateway's configuration as its Admin API gives it: Kong's shape or Konnect's.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tollgate_declare::plan::{Existing, Schemas};
use tollgate_model::{Kind, membership_id};
use ureq::http::Method;

use crate::CliError;
use crate::client::{CallError, Client};
use crate::settings::Settings;

/// What stays as it is in a path's segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How long a whole sync in one call may take.
const TRANSACTION_TIME: Duration = Duration::from_secs(600);

/// Kinds of entities that are managed and have a list of their own; targets are listed by upstream in Kong, members by
/// group.
fn listed_kinds() -> Vec<Kind> {
    let listed = |kind: &Kind| !matches!(kind, Kind::Workspace | Kind::Target | Kind::ConsumerGroupConsumer);
    Kind::ALL.into_iter().filter(listed).collect()
}

/// A set of entities on a server: a workspace of a Kong or a control plane of Konnect.
pub struct Remote {
    client: Client,
    /// In front of every path.
    prefix: String,
    /// The control plane's name, in Konnect.
    pub control_plane: Option<String>,
    /// Whether the server is a Tollgate, and so takes whole transactions.
    pub is_tollgate: bool,
}

impl Remote {
    /// A Kong's Admin API, once its version has been asked for.
    ///
    /// # Errors
    /// No answer, or not Kong's.
    pub fn kong(settings: &Settings, workspace: Option<&str>) -> Result<(Self, String), CliError> {
        let token = settings.admin_token.clone().map(|token| ("Kong-Admin-Token", token));
        let client = Client::new(settings, &settings.kong_addr, token)?;
        let mut root = client.get("/");
        if let (Err(_), Some(workspace)) = (&root, workspace) {
            root = client.get(&format!("/{}/kong", segment(workspace)));
        }
        let root = root.map_err(|error| {
            let hint = match error.status() {
                Some(401 | 403) => "; is the token right (--kong-admin-token)?".to_owned(),
                Some(_) => format!("; is {} the address of an Admin API (--kong-addr)?", settings.kong_addr),
                None => String::new(),
            };
            CliError::Message(format!("reading Kong version: {error}{hint}"))
        })?;
        let version = root.get("version").and_then(Value::as_str).unwrap_or_default().to_owned();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 3) {
            let found = if version.is_empty() { "no version" } else { &version };
            return Err(CliError::Message(format!(
                "{}: expected Kong's Admin API of version 3 or later, found {found}",
                settings.kong_addr
            )));
        }
        let is_tollgate = root.get("tollgate").is_some();
        let prefix = workspace.map(|name| format!("/{}", segment(name))).unwrap_or_default();
        Ok((Self { client, prefix, control_plane: None, is_tollgate }, version))
    }

    /// A control plane of Konnect, by name.
    ///
    /// # Errors
    /// No answer, or no control plane of this name.
    pub fn konnect(settings: &Settings, name: &str) -> Result<Self, CliError> {
        let token = settings.konnect_token.as_ref().map(|token| ("Authorization", format!("Bearer {token}")));
        let client = Client::new(settings, settings.konnect_addr(), token)?;
        let mut page = 1;
        loop {
            let path = match page {
                1 => "/konnect-api/api/runtime_groups".to_owned(),
                page => format!("/konnect-api/api/runtime_groups?page={page}&size=100"),
            };
            let answer = client
                .get(&path)
                .map_err(|error| CliError::Message(format!("fetching control planes: {error}")))?;
            let list = answer.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
            let found = list.iter().find(|plane| plane.get("name").is_some_and(|other| other == name));
            if let Some(id) = found.and_then(|plane| plane.get("id")).and_then(Value::as_str) {
                let prefix = format!("/v2/control-planes/{}/core-entities", segment(id));
                let is_tollgate = answer.get("tollgate").is_some();
                return Ok(Self { client, prefix, control_plane: Some(name.to_owned()), is_tollgate });
            }
            let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
            if list.is_empty() || number("page") == number("pageCount") {
                return Err(CliError::Message(format!("control plane not found: {name}")));
            }
            page += 1;
        }
    }

    /// Name of the organisation in Konnect.
    ///
    /// # Errors
    /// No answer.
    pub fn organization(settings: &Settings) -> Result<String, CliError> {
        let address = match settings.konnect_addr().split_once("api.konghq") {
            Some((_, rest)) => format!("https://global.api.konghq{rest}"),
            None => settings.konnect_addr().to_owned(),
        };
        let token = settings.konnect_token.as_ref().map(|token| ("Authorization", format!("Bearer {token}")));
        let answer = Client::new(settings, &address, token)?.get("/v2/organizations/me")?;
        Ok(answer.get("name").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Whether the workspace this stands for is there.
    ///
    /// # Errors
    /// No answer.
    pub fn has_workspace(&self, name: &str) -> Result<bool, CliError> {
        match self.client.get(&format!("{}/workspaces/{}", self.prefix, segment(name))) {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a workspace.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn create_workspace(&self, name: &str) -> Result<(), CliError> {
        self.client.call(&Method::POST, "/workspaces", Some(&json!({"name": name})), None)?;
        Ok(())
    }

    /// Names of all workspaces.
    ///
    /// # Errors
    /// No answer.
    pub fn workspaces(&self) -> Result<Vec<String>, CliError> {
        let list = self.pages("/workspaces/?size=1000")?;
        Ok(list.iter().filter_map(|workspace| workspace.get("name")?.as_str().map(str::to_owned)).collect())
    }

    fn pages(&self, path: &str) -> Result<Vec<Value>, CallError> {
        let mut all = Vec::new();
        let mut offset: Option<String> = None;
        loop {
            let path = match &offset {
                // Arguments in alphabetical order, as decK sends them.
                Some(offset) => path.replacen("size=", &format!("offset={}&size=", segment(offset)), 1),
                None => path.to_owned(),
            };
            let mut answer = self.client.get(&path)?;
            if let Some(Value::Array(list)) = answer.get_mut("data").map(Value::take) {
                all.extend(list);
            }
            offset = answer.get("offset").and_then(Value::as_str).map(str::to_owned);
            if offset.is_none() {
                return Ok(all);
            }
        }
    }

    /// Every managed entity that has all of the tags, without those Konnect keeps for itself and those that
    /// belong to entities Tollgate does not know.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn entities(&self, tags: &[String]) -> Result<Vec<Existing>, CliError> {
        self.entities_of(&listed_kinds(), tags)
    }

    /// The same, of some kinds only.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn entities_of(&self, kinds: &[Kind], tags: &[String]) -> Result<Vec<Existing>, CliError> {
        let mut query = "?size=1000".to_owned();
        if !tags.is_empty() {
            let list: Vec<String> = tags.iter().map(|tag| segment(tag)).collect();
            query.push_str(&format!("&tags={}", list.join("%2C")));
        }
        let lists: Vec<Result<Vec<Existing>, CallError>> = std::thread::scope(|scope| {
            let calls: Vec<_> = kinds.iter().map(|kind| scope.spawn(|| self.list(*kind, &query))).collect();
            calls.into_iter().filter_map(|call| call.join().ok()).collect()
        });
        let mut all = Vec::new();
        for list in lists {
            all.extend(list?);
        }
        if kinds.contains(&Kind::Upstream) {
            let targets = self.targets(&all, &query)?;
            all.extend(targets);
        }
        Ok(all)
    }

    /// The memberships of these groups.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn memberships(&self, groups: &[&Existing]) -> Result<Vec<Existing>, CliError> {
        let mut all = Vec::new();
        for group in groups {
            let name = group.fields.get("name").and_then(Value::as_str).unwrap_or_default();
            let shown = match self.client.get(&format!("{}/consumer_groups/{}", self.prefix, segment(name))) {
                Err(error) if matches!(error.status(), Some(403 | 404)) => continue,
                shown => shown?,
            };
            for consumer in shown.get("consumers").and_then(Value::as_array).into_iter().flatten() {
                let fields = json!({
                    "consumer": {"id": consumer.get("id")},
                    "consumer_group": {"id": group.id},
                });
                let (kind, Value::Object(mut fields)) = (Kind::ConsumerGroupConsumer, fields) else {
                    continue;
                };
                let Some(id) = membership_id(kind, &fields).map(|id| id.to_string()) else { continue };
                fields.insert("id".into(), id.clone().into());
                all.push(Existing { kind, id, fields });
            }
        }
        Ok(all)
    }

    fn list(&self, kind: Kind, query: &str) -> Result<Vec<Existing>, CallError> {
        let listed = self.pages(&format!("{}/{}{query}", self.prefix, collection(kind)));
        match listed {
            Ok(list) => Ok(list.into_iter().filter_map(|value| existing(kind, value)).collect()),
            // Not every server has them (decK's rule).
            Err(error) => match (kind, error.status()) {
                (Kind::CaCertificate | Kind::KeyAuthCredential, Some(404))
                | (Kind::ConsumerGroup, Some(403 | 404)) => Ok(Vec::new()),
                _ => Err(error),
            },
        }
    }

    /// Targets: one list in Konnect, one per upstream in Kong.
    fn targets(&self, all: &[Existing], query: &str) -> Result<Vec<Existing>, CliError> {
        if self.control_plane.is_some() {
            return Ok(self.list(Kind::Target, query)?);
        }
        let mut targets = Vec::new();
        for upstream in all.iter().filter(|entity| entity.kind == Kind::Upstream) {
            let path = format!("{}/upstreams/{}/targets{query}", self.prefix, segment(&upstream.id));
            targets.extend(self.pages(&path)?.into_iter().filter_map(|value| existing(Kind::Target, value)));
        }
        Ok(targets)
    }

    /// Schemas of the kinds whose defaults are filled in.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn entity_schemas(&self, schemas: &mut Schemas) -> Result<(), CliError> {
        for kind in Schemas::FILLED {
            let answer = if self.control_plane.is_some() {
                let name = kind.plural().trim_end_matches('s');
                Some(self.client.get(&format!("{}/v1/schemas/json/{name}", self.prefix))?)
            } else {
                match self.client.get(&format!("{}/schemas/{}", self.prefix, kind.plural())) {
                    Ok(schema) => Some(schema),
                    Err(error) if error.status() == Some(404) => None,
                    Err(error) => return Err(error.into()),
                }
            };
            if let Some(schema) = answer {
                schemas.add_entity(kind, &schema);
            }
        }
        Ok(())
    }

    /// A plugin's schema.
    ///
    /// # Errors
    /// The server's refusal: there is no such plugin.
    pub fn plugin_schema(&self, name: &str) -> Result<Value, CallError> {
        self.client.get(&format!("{}/schemas/plugins/{}", self.prefix, segment(name)))
    }

    /// Checks an entity, changing nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self, kind: Kind, fields: &Value) -> Result<(), CallError> {
        let path = format!("{}/schemas/{}/validate", self.prefix, kind.plural());
        self.client.call(&Method::POST, &path, Some(fields), None).map(|_| ())
    }

    /// Creates or replaces an entity; `is_there` tells which.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn put(&self, kind: Kind, id: &str, fields: &Value, is_there: bool) -> Result<(), CallError> {
        let path = self.item(kind, id, fields);
        // As decK does.
        if kind == Kind::ConsumerGroup && is_there && self.control_plane.is_none() {
            return self.client.call(&Method::PATCH, &path, Some(fields), None).map(|_| ());
        }
        if kind == Kind::ConsumerGroupConsumer {
            let (group, consumer) = path.rsplit_once('/').unwrap_or((&path, ""));
            let body = json!({"consumer": consumer});
            return self.client.call(&Method::POST, group, Some(&body), None).map(|_| ());
        }
        match self.client.call(&Method::PUT, &path, Some(fields), None) {
            Err(error) if kind == Kind::Target && error.status() == Some(404) => {
                let collection = path.rsplit_once('/').map_or(path.as_str(), |(collection, _)| collection);
                self.client.call(&Method::POST, collection, Some(fields), None).map(|_| ())
            }
            answer => answer.map(|_| ()),
        }
    }

    /// Deletes an entity.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn delete(&self, kind: Kind, id: &str, fields: &Value) -> Result<(), CallError> {
        self.client.call(&Method::DELETE, &self.item(kind, id, fields), None, None).map(|_| ())
    }

    fn item(&self, kind: Kind, id: &str, fields: &Value) -> String {
        let owner = |field: &str| {
            segment(fields.get(field).and_then(|to| to.get("id")).and_then(Value::as_str).unwrap_or_default())
        };
        let (prefix, id) = (&self.prefix, segment(id));
        match kind {
            Kind::KeyAuthCredential => format!("{prefix}/consumers/{}/key-auth/{id}", owner("consumer")),
            Kind::Target => format!("{prefix}/upstreams/{}/targets/{id}", owner("upstream")),
            Kind::ConsumerGroupConsumer => {
                let (group, consumer) = (owner("consumer_group"), owner("consumer"));
                format!("{prefix}/consumer_groups/{group}/consumers/{consumer}")
            }
            _ => format!("{prefix}/{}/{id}", kind.plural()),
        }
    }

    /// Applies operations to a Tollgate, all or none.
    ///
    /// # Errors
    /// What is wrong, with the numbers of the operations (`errors[].operation`).
    pub fn transaction(&self, message: &str, operations: &[Value]) -> Result<(), CallError> {
        let body = json!({"author": "deck", "message": message, "operations": operations});
        let path = format!("{}/tollgate/transaction", self.prefix);
        self.client.call(&Method::POST, &path, Some(&body), Some(TRANSACTION_TIME)).map(|_| ())
    }

    /// The revisions of a Tollgate's configuration.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn history(&self) -> Result<Vec<Value>, CliError> {
        let mut answer = self.client.get(&format!("{}/tollgate/revisions", self.prefix))?;
        Ok(answer
            .get_mut("data")
            .map(Value::take)
            .and_then(|data| data.as_array().cloned())
            .unwrap_or_default())
    }

    /// Brings back a revision of a Tollgate's configuration; the number of the new one, where anything changed.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn rollback(&self, revision: u64) -> Result<Option<u64>, CliError> {
        let path = format!("{}/tollgate/revisions/{revision}/rollback", self.prefix);
        let answer = self.client.call(&Method::POST, &path, Some(&json!({})), Some(TRANSACTION_TIME))?;
        Ok(answer.get("revision").and_then(Value::as_u64))
    }
}

fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Where entities of a kind are listed.
fn collection(kind: Kind) -> &'static str {
    if kind == Kind::KeyAuthCredential { "key-auths" } else { kind.plural() }
}

/// An entity of a list; `None` for what must be left alone.
fn existing(kind: Kind, value: Value) -> Option<Existing> {
    let Value::Object(fields) = value else { return None };
    let id = fields.get("id").and_then(Value::as_str)?.to_owned();
    let tagged = |tag: &str| {
        fields.get("tags").and_then(Value::as_array).is_some_and(|tags| tags.iter().any(|other| other == tag))
    };
    if tagged("konnect-managed") || kind == Kind::Plugin && tagged("konnect-managed-plugin") {
        return None;
    }
    // Bound to something of a kind that is not known here.
    let known = |name: &str| kind.schema().fields.iter().any(|field| field.name == name);
    let foreign =
        |(name, value): (&String, &Value)| !known(name) && value.get("id").is_some_and(Value::is_string);
    (!fields.iter().any(foreign)).then_some(Existing { kind, id, fields })
}
