//! decK's commands, as a client of an Admin API: a Tollgate's, a Kong's, or Konnect's.

mod arguments;
mod client;
mod commands;
mod diagnostics;
mod files;
mod output;
mod remote;
mod settings;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgAction, Command, CommandFactory, Parser};
use tollgate_declare::Problem;

use arguments::{Connection, Deck, DeckCommand, GatewayCommand};
pub use arguments::{Gateway, Shell};

/// Version of decK whose commands, flags and output are followed.
pub const DECK_VERSION: &str = "1.64.0";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// Something is wrong with files, or with what they declare.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
    /// The server refused a call or did not answer it.
    #[error(transparent)]
    Call(#[from] client::CallError),
    /// Anything else.
    #[error("{0}")]
    Message(String),
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("\n\t{problem}")).collect();
    format!("{} errors occurred:{}\n", problems.len(), lines.concat())
}

/// Runs the binary as `deck`.
pub fn deck(words: Vec<OsString>) -> ExitCode {
    let deck = match Deck::try_parse_from(like_go(&Deck::command(), words)) {
        Ok(deck) => deck,
        Err(error) => return usage_error(&error),
    };
    let moved = |name: &str| {
        eprintln!(
            "Info: 'deck {name}' functionality has moved to 'deck gateway {name}' and will be removed in a future version of decK"
        );
    };
    let command = match deck.command {
        DeckCommand::Gateway { command } => command,
        DeckCommand::Version => {
            output::print(&format!("decK v{DECK_VERSION} (tollgate-{}) \n", env!("CARGO_PKG_VERSION")));
            return ExitCode::SUCCESS;
        }
        DeckCommand::Completion { shell } => return completion(&mut Deck::command(), shell),
        DeckCommand::Sync(arguments::Moved { state, mut command }) => {
            moved("sync");
            command.files = state;
            GatewayCommand::Sync(command)
        }
        DeckCommand::Diff(arguments::Moved { state, mut command }) => {
            moved("diff");
            command.files = state;
            GatewayCommand::Diff(command)
        }
        DeckCommand::Validate(arguments::Moved { state, mut command }) => {
            moved("validate");
            command.files = state;
            GatewayCommand::Validate(command)
        }
        DeckCommand::Dump(mut command) => {
            moved("dump");
            if command.output_file == "-" && !command.all_workspaces {
                command.output_file = "kong".into();
            }
            GatewayCommand::Dump(command)
        }
        DeckCommand::Reset(command) => {
            moved("reset");
            GatewayCommand::Reset(command)
        }
        DeckCommand::Ping(command) => {
            moved("ping");
            GatewayCommand::Ping(command)
        }
    };
    finish(&deck.connection, command)
}

/// Runs `tollgate gateway …`.
pub fn gateway(gateway: Gateway) -> ExitCode {
    finish(&gateway.connection, gateway.command)
}

/// Prints a shell's completion script.
pub fn completion(command: &mut Command, shell: Shell) -> ExitCode {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(clap_complete::Shell::from(shell), command, name, &mut script);
    output::print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

fn finish(connection: &Connection, command: GatewayCommand) -> ExitCode {
    match commands::run(connection, command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lets switches be given a value (`--json-output=false`), as in Go's command lines.
pub fn like_go(command: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let mut switches = Vec::new();
    collect_switches(command, &mut switches);
    let plain = |word: OsString| {
        let given = word.to_str().and_then(|text| text.strip_prefix("--")?.split_once('='));
        let Some((name, value)) = given.filter(|(name, _)| switches.iter().any(|switch| switch == name))
        else {
            return Some(word);
        };
        match value {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => Some(format!("--{name}").into()),
            "false" | "False" | "FALSE" | "f" | "F" | "0" => None,
            // What it is not is said by the parser.
            _ => Some(word),
        }
    };
    words.into_iter().filter_map(plain).collect()
}

fn collect_switches(command: &Command, switches: &mut Vec<String>) {
    let own = command.get_arguments().filter(|argument| matches!(argument.get_action(), ArgAction::SetTrue));
    switches.extend(own.filter_map(|argument| argument.get_long().map(str::to_owned)));
    command.get_subcommands().for_each(|below| collect_switches(below, switches));
}

/// Says what is wrong with a command line: decK's words and exit code, since 2 means "something differs".
pub fn usage_error(error: &clap::Error) -> ExitCode {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if !error.use_stderr() {
        output::print(&error.render().to_string());
        return ExitCode::SUCCESS;
    }
    let context = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        // The nearest comes last.
        Some(ContextValue::Strings(texts)) => texts.last().cloned(),
        _ => None,
    };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let hint = context(ContextKind::SuggestedArg).or_else(|| context(ContextKind::SuggestedSubcommand));
    let hint = hint.map(|hint| format!("\nDid you mean '{hint}'?")).unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with("--") => format!("unknown flag: {argument}{hint}"),
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            format!("unknown shorthand flag: '{}' in {argument}", argument.chars().nth(1).unwrap_or_default())
        }
        ErrorKind::UnknownArgument => {
            "positional arguments are not valid for this command, please use flags instead".to_owned()
        }
        ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let program = program();
            format!("unknown command \"{word}\" for \"{program}\"{hint}\nRun '{program} --help' for usage.")
        }
        _ => {
            let text = error.render().to_string();
            text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
        }
    };
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprintln!("{}", error.render());
    } else {
        eprintln!("Error: {message}");
    }
    ExitCode::FAILURE
}

/// The name under which the binary was called.
fn program() -> String {
    let path = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&path).file_name();
    name.map_or_else(|| "tollgate".to_owned(), |name| name.to_string_lossy().into_owned())
}
