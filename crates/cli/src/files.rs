//! State files: found, read and put together.

use std::io::Read;
use std::path::{Path, PathBuf};

use tollgate_declare::{Declaration, Dialect, Problem};

use crate::CliError;

/// Reads files and folders; `-`, or nothing, is standard input.
///
/// # Errors
/// Everything that is wrong with all of them.
pub fn read(inputs: &[String]) -> Result<Declaration, CliError> {
    let standard_input = ["-".to_owned()];
    let inputs = if inputs.is_empty() { &standard_input } else { inputs };
    let mut texts: Vec<(String, String)> = Vec::new();
    for input in inputs {
        if input == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| CliError::Message(format!("reading STDIN: {error}")))?;
            texts.push(("STDIN".into(), text));
            continue;
        }
        for file in files_of(Path::new(input))? {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file)
                .map_err(|error| CliError::Message(format!("reading file {name}: {error}")))?;
            texts.push((name, text));
        }
    }
    if texts.iter().all(|(_, text)| text.trim().is_empty()) {
        return Err(CliError::Message(
            "it seems like you are trying to sync an empty configuration file or directory. \
             To delete everything, use 'gateway reset'; to sync nothing, a file with _format_version alone"
                .into(),
        ));
    }
    let mut all = Declaration::default();
    let mut problems = Vec::new();
    for (name, text) in &texts {
        if text.starts_with(' ') {
            problems.push(Problem::at(name, 1, "", "file must not begin with a whitespace"));
            continue;
        }
        if let Err(more) = all.add(name, text, Dialect::Deck, &|name| std::env::var(name).ok()) {
            problems.extend(more);
        }
    }
    if problems.is_empty() && !all.has_version {
        let file = texts.first().map_or("", |(name, _)| name.as_str());
        let message = "cannot apply '1.1' config format version to Kong version 3.0 or above.";
        let hint = "write _format_version: \"3.0\"";
        problems.push(Problem::at(file, 1, "_format_version", message).with_hint(hint));
    }
    if problems.is_empty() { Ok(all) } else { Err(CliError::Problems(problems)) }
}

/// The file itself, or the files below a folder that can hold declarations, in order of their names.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error: std::io::Error| CliError::Message(format!("reading {}: {error}", path.display()));
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(path).map_err(failed)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        let extension = entry.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        if entry.is_dir() {
            files.extend(files_of(&entry)?);
        } else if matches!(extension.as_deref(), Some("yaml" | "yml" | "json")) {
            files.push(entry);
        }
    }
    Ok(files)
}
