//! OpenAI, and those who serve its API under addresses and with manners of their own (Kong 3.15's list).

use std::borrow::Cow;

use super::Settings;
use super::openai::OpenAi;
use crate::Operation;

/// The provider of this name; `None` where it speaks another API.
pub(super) fn configured(name: &str, settings: &Settings) -> Option<OpenAi> {
    let speaks_openai = |format: &Option<String>| format.as_deref() == Some("openai");
    Some(match name {
        "openai" => {
            let served = Operation::ALL.into_iter().filter(|operation| operation.passes());
            let others = served.map(|operation| (operation, format!("/v1{}", end_of(operation)).into()));
            OpenAi { others: others.collect(), ..plain("openai", "api.openai.com") }
        }
        "azure" => azure(settings),
        "mistral" if speaks_openai(&settings.mistral_format) => OpenAi {
            // Its API refuses what it does not know. Usage comes with the last event, unasked.
            refused: &["seed", "stream_options"],
            ..plain("mistral", "api.mistral.ai")
        },
        // Its host is always `upstream_url`'s.
        "llama2" if speaks_openai(&settings.llama2_format) => plain("llama2", "localhost"),
        "vllm" => OpenAi { takes_top_k: true, ..chat_only("vllm", "localhost") },
        "deepseek" => chat_only("deepseek", "api.deepseek.com"),
        "xai" => OpenAi {
            others: vec![
                (Operation::Responses, "/v1/responses".into()),
                (Operation::Images, "/v1/images/generations".into()),
            ],
            ..chat_only("xai", "api.x.ai")
        },
        "cerebras" => chat_only("cerebras", "api.cerebras.ai"),
        "databricks" => OpenAi {
            host: match &settings.databricks_workspace {
                Some(workspace) => format!("{workspace}.cloud.databricks.com").into(),
                None => "localhost".into(),
            },
            chat: "/serving-endpoints/v1/chat/completions".into(),
            refused: &["stream_options"],
            ..chat_only("databricks", "")
        },
        _ => return None,
    })
}

/// Where OpenAI serves an operation that passes, below its version.
fn end_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Responses => "/responses",
        Operation::Assistants => "/assistants",
        Operation::Files => "/files",
        Operation::Batches => "/batches",
        Operation::Speech => "/audio/speech",
        Operation::Transcriptions => "/audio/transcriptions",
        Operation::Translations => "/audio/translations",
        Operation::Images => "/images/generations",
        Operation::ImageEdits => "/images/edits",
        Operation::Realtime => "/realtime",
        Operation::Chat | Operation::Completions | Operation::Embeddings | Operation::Preserve => "",
    }
}

/// A server of chats alone.
pub(super) fn chat_only(name: &'static str, host: &'static str) -> OpenAi {
    OpenAi { name, host: host.into(), chat: "/v1/chat/completions".into(), ..OpenAi::default() }
}

fn plain(name: &'static str, host: &'static str) -> OpenAi {
    OpenAi {
        completions: Some("/v1/completions".into()),
        embeddings: Some("/v1/embeddings".into()),
        ..chat_only(name, host)
    }
}

/// Azure: the deployment stands in the path, and the API's version in the query.
fn azure(settings: &Settings) -> OpenAi {
    let of = |option: &Option<String>| option.clone().unwrap_or_default();
    let base_path = format!("/openai/deployments/{}", of(&settings.azure_deployment_id));
    let path = |end: &str| Cow::Owned(format!("{base_path}/{end}"));
    OpenAi {
        name: "azure",
        host: format!("{}.openai.azure.com", of(&settings.azure_instance)).into(),
        chat: path("chat/completions"),
        completions: Some(path("completions")),
        embeddings: Some(path("embeddings")),
        query: Some(("api-version", of(&settings.azure_api_version))),
        others: Operation::ALL
            .into_iter()
            .filter(|operation| operation.passes())
            .map(|operation| {
                // These are the resource's, and not of a deployment.
                let path = match operation {
                    Operation::Responses => "/openai/v1/responses".to_owned(),
                    Operation::Assistants | Operation::Files | Operation::Batches | Operation::Realtime => {
                        format!("/openai{}", end_of(operation))
                    }
                    operation => format!("{base_path}{}", end_of(operation)),
                };
                (operation, path.into())
            })
            .collect(),
        base_path,
        ..OpenAi::default()
    }
}
