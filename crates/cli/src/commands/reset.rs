//! `reset`

use std::process::ExitCode;

use tollgate_declare::plan::{Known, Schemas, plan};

use super::apply::{Pace, make};
use super::{open, tags_of};
use crate::CliError;
use crate::arguments::{Report, Reset};
use crate::output::{Reporter, confirm};
use crate::remote::Remote;
use crate::settings::Settings;

/// Deletes everything that is looked at.
pub(super) fn run(settings: &Settings, flags: &Reset) -> Result<ExitCode, CliError> {
    flags.selection.check()?;
    let workspace = flags.selection.workspace.as_deref();
    if flags.all_workspaces && workspace.is_some() {
        return Err(CliError::Message("workspace cannot be specified with --all-workspace flag".into()));
    }
    let question = "This will delete all configuration from Kong's database.\n> Are you sure? ";
    if !flags.force && !confirm(question) {
        return Ok(ExitCode::SUCCESS);
    }
    if !flags.all_workspaces {
        reset(settings, flags, &open(settings, workspace)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for name in open(settings, None)?.workspaces()? {
        reset(settings, flags, &open(settings, Some(&name))?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn reset(settings: &Settings, flags: &Reset, remote: &Remote) -> Result<(), CliError> {
    let current =
        Known::new(flags.selection.entities(remote, &tags_of(&flags.selection), &Known::default())?);
    let events = plan(&current, Vec::new(), &Known::default(), &Schemas::default(), false);
    let reporter = Reporter::new(&Report::default(), settings.no_color);
    let pace = Pace { parallelism: 10, delay: std::time::Duration::ZERO };
    let reporter = if flags.json_output { reporter.quiet() } else { reporter };
    make(remote, &events, None, &reporter, &pace, "gateway reset").map_err(CliError::Problems)
}
