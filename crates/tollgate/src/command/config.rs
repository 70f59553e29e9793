//! `config`: declarative files, and what can be configured.

use std::path::PathBuf;

use crate::serve;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Write an example of a declarative file
    Init {
        /// The file
        #[arg(default_value = "kong.yml")]
        file: PathBuf,
    },
    /// Print every property of the configuration, as a page
    Properties,
    /// Print every plugin with its configuration, as a page
    Plugins,
    /// Check a declarative file
    Parse {
        /// The file
        file: PathBuf,
    },
}

const EXAMPLE: &str = include_str!("config/example.yml");

pub(super) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Init { file } => {
            if file.exists() {
                return Err(format!("{} already exists; it is left as it is", file.display()));
            }
            std::fs::write(file, EXAMPLE).map_err(|error| format!("{}: {error}", file.display()))
        }
        Command::Properties => {
            print!("{}", crate::conf::documentation());
            Ok(())
        }
        Command::Plugins => {
            print!("{}", tollgate_plugins::documentation());
            Ok(())
        }
        Command::Parse { file } => {
            let text =
                std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            let registry = tollgate_plugins::Registry::bundled();
            serve::read_declaration(&file.display().to_string(), &text, &registry).map_err(|invalid| {
                invalid.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            })?;
            println!("parse successful");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_is_valid() {
        let registry = tollgate_plugins::Registry::bundled();
        let entities = crate::serve::read_declaration("example.yml", super::EXAMPLE, &registry).unwrap();
        assert_eq!(entities.len(), 5);
    }
}
