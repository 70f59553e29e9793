//! What is configured of a target: one source for all plugins that send to one (Kong 3.11).

use tollgate_llm::price::{self, Prices};
use tollgate_llm::provider::{self, Settings};
use tollgate_llm::{Format, Operation};
use tollgate_model::schema::{Branch, Constraint, EntityCheck};
use tollgate_model::{Config, FieldErrors, Map, Record, Secret, Value};

/// What a target does (Kong's `route_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum RouteType {
    /// Chats.
    #[config(rename = "llm/v1/chat")]
    Chat,
    /// Completions of a text.
    #[config(rename = "llm/v1/completions")]
    Completions,
    /// Vectors of texts.
    #[config(rename = "llm/v1/embeddings")]
    Embeddings,
    /// OpenAI's responses.
    #[config(rename = "llm/v1/responses")]
    Responses,
    /// OpenAI's assistants.
    #[config(rename = "llm/v1/assistants")]
    Assistants,
    /// Files for other operations.
    #[config(rename = "llm/v1/files")]
    Files,
    /// Batches of requests.
    #[config(rename = "llm/v1/batches")]
    Batches,
    /// Speech of a text.
    #[config(rename = "audio/v1/audio/speech")]
    Speech,
    /// Texts of speech.
    #[config(rename = "audio/v1/audio/transcriptions")]
    Transcriptions,
    /// English texts of speech.
    #[config(rename = "audio/v1/audio/translations")]
    Translations,
    /// Images of a text.
    #[config(rename = "image/v1/images/generations")]
    Images,
    /// Images of images.
    #[config(rename = "image/v1/images/edits")]
    ImageEdits,
    /// Conversations over a WebSocket.
    #[config(rename = "realtime/v1/realtime")]
    Realtime,
    /// Requests sent on as they are.
    #[config(rename = "preserve")]
    Preserve,
}

/// What is configured of one target.
pub(in crate::ai) struct TargetConfig {
    /// What it does.
    pub route_type: RouteType,
    /// How the gateway proves itself to it.
    pub auth: Option<Auth>,
    /// The model that answers.
    pub model: Model,
    /// What is written to the log.
    pub logging: Option<Logging>,
    /// Whether tokens are to be known, logged or not.
    pub counts: bool,
}

/// When answers are streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum ResponseStreaming {
    /// When the client asks.
    #[config(rename = "allow")]
    Allow,
    /// Never; a client that asks is refused.
    #[config(rename = "deny")]
    Deny,
    /// Always.
    #[config(rename = "always")]
    Always,
}

/// How the gateway proves itself to the provider.
#[derive(Debug, Clone, Default, Config)]
pub struct Auth {
    /// Name of the header that carries the provider's key.
    #[config(optional, referenceable)]
    pub header_name: Option<String>,
    /// Whole value of that header, such as `Bearer` and the key.
    #[config(optional, referenceable, encrypted)]
    pub header_value: Option<Secret>,
    /// Name of the parameter that carries the provider's key.
    #[config(optional, referenceable)]
    pub param_name: Option<String>,
    /// Value of that parameter.
    #[config(optional, referenceable, encrypted)]
    pub param_value: Option<Secret>,
    /// Whether the parameter goes into the query or the body.
    #[config(optional)]
    pub param_location: Option<ParamLocation>,
    /// Client id of an Azure app or user-assigned identity; else `AZURE_CLIENT_ID` of the environment.
    #[config(optional, referenceable)]
    pub azure_client_id: Option<String>,
    /// Secret of that Azure app; else `AZURE_CLIENT_SECRET` of the environment.
    #[config(optional, referenceable, encrypted)]
    pub azure_client_secret: Option<Secret>,
    /// Tenant of that Azure app; else `AZURE_TENANT_ID` of the environment.
    #[config(optional, referenceable)]
    pub azure_tenant_id: Option<String>,
    /// Whether a token of Entra ID stands in for a key: of the app with a secret, else of the workload
    /// (`AZURE_FEDERATED_TOKEN_FILE`), else of the identity that App Service or the machine has.
    #[config(optional, default = false)]
    pub azure_use_managed_identity: Option<bool>,
    /// Whether a token of a GCP service account stands in for a key.
    #[config(optional, default = false)]
    pub gcp_use_service_account: Option<bool>,
    /// JSON of that service account; else `GCP_SERVICE_ACCOUNT` of the environment, else the file that
    /// `GOOGLE_APPLICATION_CREDENTIALS` names (also of a workload), else the machine's own account.
    #[config(optional, referenceable, encrypted)]
    pub gcp_service_account_json: Option<Secret>,
    /// Address of the machine's token, in place of its metadata server's (Kong 3.14).
    #[config(optional, referenceable)]
    pub gcp_metadata_url: Option<String>,
    /// Address of OAuth tokens, in place of the one in the service account (Kong 3.14).
    #[config(optional, referenceable)]
    pub gcp_oauth_token_url: Option<String>,
    /// AWS key id. Without keys here, they come from where AWS's SDKs look: `AWS_ACCESS_KEY_ID`, profiles in AWS's
    /// files, `AWS_WEB_IDENTITY_TOKEN_FILE`, the container's or the instance's role.
    #[config(optional, referenceable, encrypted)]
    pub aws_access_key_id: Option<Secret>,
    /// AWS secret key beside that id.
    #[config(optional, referenceable, encrypted)]
    pub aws_secret_access_key: Option<Secret>,
    /// Whether a key that the client sent is kept.
    #[config(optional, default = false)]
    pub allow_override: Option<bool>,
}

/// Where an authentication parameter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum ParamLocation {
    /// The query string.
    #[config(rename = "query")]
    Query,
    /// The body.
    #[config(rename = "body")]
    Body,
}

/// The model that answers.
#[derive(Debug, Clone, Config)]
pub struct Model {
    /// Who runs the model.
    #[config(
        required,
        one_of(
            "openai",
            "azure",
            "anthropic",
            "cohere",
            "mistral",
            "llama2",
            "gemini",
            "bedrock",
            "huggingface",
            "cerebras",
            "dashscope",
            "xai",
            "databricks",
            "deepseek",
            "ollama",
            "vllm"
        )
    )]
    pub provider: String,
    /// The provider's name for the model; may hold `$(headers.x)`, `$(uri_captures.x)`, `$(query_params.x)`.
    #[config(optional)]
    pub name: Option<String>,
    /// What clients call the model, in their body's `model`; of several targets, the request goes to those it names.
    #[config(optional)]
    pub model_alias: Option<String>,
    /// What is asked of the model.
    #[config(optional)]
    pub options: Option<Options>,
}

/// What is asked of the model, and where it is found.
#[derive(Debug, Clone, Default, Config)]
pub struct Options {
    /// Most tokens in an answer.
    #[config(optional)]
    pub max_tokens: Option<i64>,
    /// Price of a million prompt tokens. Without prices here, those of the node's list count (`ai_price_list`).
    #[config(optional)]
    pub input_cost: Option<f64>,
    /// Price of a million answer tokens.
    #[config(optional)]
    pub output_cost: Option<f64>,
    /// Price of a million prompt tokens read from the provider's cache (Kong 3.14); else as any prompt token.
    #[config(optional)]
    pub cache_read_cost: Option<f64>,
    /// Price of a million prompt tokens written to the provider's cache (Kong 3.14); else as any prompt token.
    #[config(optional)]
    pub cache_write_cost: Option<f64>,
    /// The same by how long the cache keeps them (Kong 3.14).
    #[config(optional)]
    pub cache_write_cost_list: Option<Vec<CacheWriteCost>>,
    /// What long prompts cost more (Kong 3.14).
    #[config(optional)]
    pub context_window_factor: Option<Vec<ContextWindowFactor>>,
    /// What service tiers cost more, or less (Kong 3.14).
    #[config(optional)]
    pub service_tier_factor: Option<Vec<ServiceTierFactor>>,
    /// How freely the model chooses words.
    #[config(optional, between(0, 5))]
    pub temperature: Option<f64>,
    /// Share of probability the model chooses from.
    #[config(optional, between(0, 1))]
    pub top_p: Option<f64>,
    /// Number of words the model chooses from.
    #[config(optional, between(0, 500))]
    pub top_k: Option<i64>,
    /// Anthropic's API version.
    #[config(optional)]
    pub anthropic_version: Option<String>,
    /// Azure resource name.
    #[config(optional)]
    pub azure_instance: Option<String>,
    /// Azure API version.
    #[config(optional, default = "2023-05-15")]
    pub azure_api_version: Option<String>,
    /// Azure deployment.
    #[config(optional)]
    pub azure_deployment_id: Option<String>,
    /// Format a Llama server speaks.
    #[config(optional, one_of("raw", "openai", "ollama"))]
    pub llama2_format: Option<String>,
    /// Format a Mistral server speaks.
    #[config(optional, one_of("openai", "ollama"))]
    pub mistral_format: Option<String>,
    /// Whole address to send requests to, in place of the provider's.
    #[config(optional)]
    pub upstream_url: Option<String>,
    /// Path to send requests to, in place of the provider's. `upstream_url` is preferred.
    #[config(optional)]
    pub upstream_path: Option<String>,
    /// Length of embedding vectors.
    #[config(optional)]
    pub embeddings_dimensions: Option<i64>,
    /// Options of Gemini and Vertex.
    #[config(optional)]
    pub gemini: Option<Gemini>,
    /// Options of Bedrock.
    #[config(optional)]
    pub bedrock: Option<Bedrock>,
    /// Options of Hugging Face.
    #[config(optional)]
    pub huggingface: Option<Huggingface>,
    /// Options of Cohere.
    #[config(optional)]
    pub cohere: Option<Cohere>,
    /// Options of DashScope.
    #[config(optional)]
    pub dashscope: Option<Dashscope>,
    /// Options of Databricks.
    #[config(optional)]
    pub databricks: Option<Databricks>,
}

/// Price of what a provider's cache keeps for a time.
#[derive(Debug, Clone, Config)]
pub struct CacheWriteCost {
    /// That time, as the provider writes it: `5m`, `1h`.
    #[config(required)]
    pub ttl: String,
    /// Price of a million tokens.
    #[config(required)]
    pub cost: f64,
}

/// Factors of prompts of more than so many tokens.
#[derive(Debug, Clone, Config)]
pub struct ContextWindowFactor {
    /// That many tokens.
    #[config(required, check = whole_number)]
    pub above: String,
    /// Factor of all prices of the prompt.
    #[config(required)]
    pub input_factor: f64,
    /// Factor of the answer's price.
    #[config(required)]
    pub output_factor: f64,
}

/// Factor of the price in a service tier.
#[derive(Debug, Clone, Config)]
pub struct ServiceTierFactor {
    /// Part of the tier's name as the provider tells it; the longest that fits counts.
    #[config(required, len_min(1))]
    pub tier: String,
    /// The factor; without one that fits it is 1.
    #[config(required)]
    pub factor: f64,
}

fn whole_number(value: &Value) -> Result<(), String> {
    let number = value.as_str().and_then(|text| text.parse::<u64>().ok());
    number.map(drop).ok_or_else(|| "expected a number of tokens, such as '200000'".to_owned())
}

impl Options {
    /// What is configured of prices.
    pub(super) fn prices(&self) -> Prices {
        Prices {
            input_cost: self.input_cost,
            output_cost: self.output_cost,
            cache_read_cost: self.cache_read_cost,
            cache_write_cost: self.cache_write_cost,
            cache_write_cost_list: self
                .cache_write_cost_list
                .iter()
                .flatten()
                .map(|each| price::CacheWriteCost { ttl: each.ttl.clone(), cost: each.cost })
                .collect(),
            context_window_factor: self
                .context_window_factor
                .iter()
                .flatten()
                .map(|each| price::ContextWindowFactor {
                    above: each.above.parse().unwrap_or(u64::MAX),
                    input_factor: each.input_factor,
                    output_factor: each.output_factor,
                })
                .collect(),
            service_tier_factor: self
                .service_tier_factor
                .iter()
                .flatten()
                .map(|each| price::ServiceTierFactor { tier: each.tier.clone(), factor: each.factor })
                .collect(),
        }
    }

    /// What the provider is to know.
    pub(super) fn settings(&self) -> Settings {
        let huggingface = self.huggingface.clone().unwrap_or_default();
        let gemini = self.gemini.clone().unwrap_or_default();
        Settings {
            azure_instance: self.azure_instance.clone(),
            azure_deployment_id: self.azure_deployment_id.clone(),
            azure_api_version: self.azure_api_version.clone(),
            anthropic_version: self.anthropic_version.clone(),
            aws_region: super::account::region(self),
            bedrock_latency: self.bedrock.as_ref().and_then(|of| of.performance_config_latency.clone()),
            bedrock_normalizes: self.bedrock.as_ref().and_then(|of| of.embeddings_normalize),
            llama2_format: self.llama2_format.clone(),
            mistral_format: self.mistral_format.clone(),
            dashscope_in_china: self.dashscope.as_ref().is_some_and(|of| of.international == Some(false)),
            databricks_workspace: self.databricks.as_ref().and_then(|of| of.workspace_instance_id.clone()),
            cohere_embedding_input_type: self.cohere.as_ref().and_then(|of| of.embedding_input_type.clone()),
            gemini_api_endpoint: gemini.api_endpoint,
            gemini_project_id: gemini.project_id,
            gemini_location_id: gemini.location_id,
            huggingface_use_cache: huggingface.use_cache,
            huggingface_wait_for_model: huggingface.wait_for_model,
            own_server: self.upstream_url.is_some(),
        }
    }
}

/// Options of Gemini and Vertex.
#[derive(Debug, Clone, Default, Config)]
#[config(checks = [EntityCheck::MutuallyRequired(vec!["api_endpoint", "project_id", "location_id"])])]
pub struct Gemini {
    /// Regional host of Vertex.
    #[config(optional)]
    pub api_endpoint: Option<String>,
    /// GCP project.
    #[config(optional)]
    pub project_id: Option<String>,
    /// GCP location.
    #[config(optional)]
    pub location_id: Option<String>,
}

/// Options of Bedrock.
#[derive(Debug, Clone, Default, Config)]
pub struct Bedrock {
    /// Region; else `AWS_REGION` of the environment.
    #[config(optional)]
    pub aws_region: Option<String>,
    /// Role to assume with whatever keys there are.
    #[config(optional)]
    pub aws_assume_role_arn: Option<String>,
    /// Name of the session under that role.
    #[config(optional)]
    pub aws_role_session_name: Option<String>,
    /// Address of the token service.
    #[config(optional)]
    pub aws_sts_endpoint_url: Option<String>,
    /// Whether embedding vectors come normalised.
    #[config(optional, default = false)]
    pub embeddings_normalize: Option<bool>,
    /// Latency class asked for; else the client's.
    #[config(optional)]
    pub performance_config_latency: Option<String>,
}

/// Options of Hugging Face.
#[derive(Debug, Clone, Default, Config)]
pub struct Huggingface {
    /// Whether answers may come from the provider's cache.
    #[config(optional)]
    pub use_cache: Option<bool>,
    /// Whether to wait for a model that is being loaded.
    #[config(optional)]
    pub wait_for_model: Option<bool>,
}

/// Options of Cohere.
#[derive(Debug, Clone, Default, Config)]
pub struct Cohere {
    /// What embeddings are for.
    #[config(
        optional,
        default = "classification",
        one_of("classification", "clustering", "image", "search_document", "search_query")
    )]
    pub embedding_input_type: Option<String>,
    /// Whether to wait for a model that is being loaded.
    #[config(optional)]
    pub wait_for_model: Option<bool>,
}

/// Options of DashScope.
#[derive(Debug, Clone, Default, Config)]
pub struct Dashscope {
    /// Whether the international endpoint is used, else the one in China.
    #[config(optional, default = true)]
    pub international: Option<bool>,
}

/// Options of Databricks.
#[derive(Debug, Clone, Default, Config)]
pub struct Databricks {
    /// Instance of the workspace, such as `dbc-…`.
    #[config(optional)]
    pub workspace_instance_id: Option<String>,
}

/// What is written to the log.
#[derive(Debug, Clone, Copy, Default, Config)]
pub struct Logging {
    /// Whether model, usage and cost are logged.
    #[config(optional, default = false)]
    pub log_statistics: Option<bool>,
    /// Whether bodies are logged.
    #[config(optional, default = false)]
    pub log_payloads: Option<bool>,
}

fn text<'a>(fields: &'a Map<String, Value>, path: &[&str]) -> Option<&'a str> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(fields.get(*first)?, |value, name| value.get(name))?.as_str()
}

/// What the fields of a target must have to do with each other (Kong 3.11).
pub(in crate::ai) fn target_checks() -> Vec<EntityCheck> {
    vec![
        EntityCheck::Conditional {
            if_field: "model.provider",
            if_match: Box::new(Constraint::OneOf(vec!["bedrock".into(), "gemini".into()])),
            then_field: "auth.allow_override",
            then_match: Box::new(Constraint::Eq(false.into())),
            then_error: Some("bedrock and gemini only support auth.allow_override = false"),
        },
        EntityCheck::MutuallyRequired(vec!["auth.header_name", "auth.header_value"]),
        EntityCheck::MutuallyRequired(vec!["auth.param_name", "auth.param_value", "auth.param_location"]),
        needs("llama2", "model.options.llama2_format", "must set %s for llama2 provider"),
        needs("mistral", "model.options.mistral_format", "must set %s for mistral provider"),
        needs("anthropic", "model.options.anthropic_version", "must set %s for anthropic provider"),
        needs("azure", "model.options.azure_instance", "must set %s for azure provider"),
        needs("azure", "model.options.azure_api_version", "must set %s for azure provider"),
        needs("azure", "model.options.azure_deployment_id", "must set %s for azure provider"),
        needs("llama2", "model.options.upstream_url", "must set %s for self-hosted providers/models"),
        EntityCheck::CustomOn {
            fields: vec!["route_type", "model", "logging"],
            run_with_missing_fields: false,
            check: statistics_fit,
        },
    ]
}

/// What a provider cannot do without (Kong 3.11).
fn needs(provider: &str, field: &'static str, error: &'static str) -> EntityCheck {
    let matches = Constraint::OneOf(vec![provider.into()]);
    let branch = Branch { matches, at_least_one_of: vec![field], error: Some(error) };
    EntityCheck::ConditionalAtLeastOneOf { if_field: "model.provider", branches: vec![branch] }
}

/// Anthropic's completions tell no usage (Kong 3.11).
fn statistics_fit(fields: &Map<String, Value>) -> Result<(), String> {
    let statistics =
        fields.get("logging").and_then(|logging| logging.get("log_statistics")) == Some(&Value::Bool(true));
    let anthropic = text(fields, &["model", "provider"]) == Some("anthropic");
    if anthropic && statistics && text(fields, &["route_type"]) == Some("llm/v1/completions") {
        return Err("anthropic does not support statistics when route_type is llm/v1/completions".to_owned());
    }
    Ok(())
}

/// Refuses a format that is not served with this route type, in the fields of a plugin.
pub(in crate::ai) fn refuse_format(schema: &Record, fields: &Map<String, Value>, errors: &mut FieldErrors) {
    // Kong has a check of its own for the others.
    let (whose, is_served): (_, &[&str]) = match known(schema, fields, "llm_format").and_then(Format::named) {
        Some(Format::Anthropic) => ("Anthropic", &["llm/v1/chat", "preserve"]),
        Some(Format::Cohere) => ("Cohere", &["llm/v1/chat"]),
        Some(Format::HuggingFace) => ("Hugging Face", &["llm/v1/chat"]),
        _ => return,
    };
    if text(fields, &["route_type"]).is_some_and(|route_type| !is_served.contains(&route_type)) {
        let message = format!("requests in {whose}'s format are served with 'llm/v1/chat' only");
        errors.add_at("route_type", message);
    }
}

/// Refuses what Kong knows and Tollgate does not serve yet, in the fields of a target; and an address that cannot
/// be one.
pub(in crate::ai) fn refuse_target(schema: &Record, fields: &Map<String, Value>, errors: &mut FieldErrors) {
    let known = |path: &str| known(schema, fields, path);
    if let Some(name) = known("route_type").filter(|name| Operation::named(name).is_none()) {
        errors.add_at("route_type", format!("the route type '{name}' cannot be served yet; use 'preserve' to send its requests on as they are"));
    }
    refuse_provider(&known, fields, errors);
    let url = "model.options.upstream_url";
    if let Some(Err(message)) = known(url).map(super::upstream::check_address) {
        errors.add_at(url, message);
    }
}

/// Refuses a provider that is not served, or not with this format or route type, and one that cannot be found.
fn refuse_provider<'a>(
    known: &dyn Fn(&str) -> Option<&'a str>,
    fields: &'a Map<String, Value>,
    errors: &mut FieldErrors,
) {
    let Some(name) = known("model.provider") else { return };
    let format = |provider: &str| {
        let option = format!("{provider}_format");
        (name == provider).then(|| text(fields, &["model", "options", &option])).flatten().map(str::to_owned)
    };
    let (llama2_format, mistral_format) = (format("llama2"), format("mistral"));
    // Without a format the schema's own check speaks.
    if ["llama2", "mistral"].contains(&name) && llama2_format.is_none() && mistral_format.is_none() {
        return;
    }
    let named = match llama2_format.as_ref().or(mistral_format.as_ref()) {
        Some(format) => format!("the provider '{name}' with the format '{format}'"),
        None => format!("the provider '{name}'"),
    };
    let settings = Settings { llama2_format, mistral_format, ..Settings::default() };
    let Some(provider) = provider::configured(name, &settings) else {
        return errors.add_at(
            "model.provider",
            format!(
                "{named} cannot be served yet; use 'openai', which with 'options.upstream_url' is any server that speaks OpenAI's API"
            ),
        );
    };
    if let Some(operation) = known("route_type").and_then(Operation::named)
        && !provider::serves(&*provider, operation)
    {
        errors.add_at("route_type", format!("{named} has no '{}' that could be served", operation.name()));
    }
    let is_set = |path: &[&str]| text(fields, &[&["model", "options"], path].concat()).is_some();
    let found = match name {
        "vllm" | "ollama" => is_set(&["upstream_url"]),
        "mistral" => {
            is_set(&["upstream_url"])
                || text(fields, &["model", "options", "mistral_format"]) != Some("ollama")
        }
        "databricks" => is_set(&["upstream_url"]) || is_set(&["databricks", "workspace_instance_id"]),
        _ => true,
    };
    if !found {
        let instead = if name == "databricks" { " or 'databricks.workspace_instance_id'" } else { "" };
        let message = format!("required{instead} with the provider '{name}': nothing else says where it is");
        errors.add_at("model.options.upstream_url", message);
    }
}

/// A text that the schema allows where it stands.
fn known<'a>(schema: &Record, fields: &'a Map<String, Value>, path: &str) -> Option<&'a str> {
    let value = text(fields, &path.split('.').collect::<Vec<_>>())?;
    let shape = schema.shape_at(path)?;
    shape.constraints.iter().all(|constraint| constraint.check(&value.into()).is_ok()).then_some(value)
}
