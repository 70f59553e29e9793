//! `ping`, `history` and `rollback`.

use std::process::ExitCode;

use serde_json::Value;

use super::open;
use crate::CliError;
use crate::output::print;
use crate::remote::Remote;
use crate::settings::Settings;

/// Whether the server answers.
pub(super) fn ping(settings: &Settings, workspace: Option<&str>) -> Result<ExitCode, CliError> {
    if settings.is_konnect() {
        let name = super::control_plane(settings, None)?;
        // The default control plane need not be there to say that Konnect is.
        if settings.control_plane.is_some() {
            Remote::konnect(settings, &name)?;
        }
        let organization = Remote::organization(settings)?;
        print(&format!("Successfully Konnected to the {organization} organization!\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let (_, version) = Remote::kong(settings, workspace)?;
    print(&format!("Successfully connected to Kong!\nKong version:  {version}\n"));
    Ok(ExitCode::SUCCESS)
}

fn tollgate(settings: &Settings) -> Result<Remote, CliError> {
    let remote = open(settings, None)?;
    if !remote.is_tollgate {
        return Err(CliError::Message(
            "only a Tollgate keeps revisions of its configuration; this server is a Kong".into(),
        ));
    }
    Ok(remote)
}

/// Lists revisions, latest first.
pub(super) fn history(settings: &Settings) -> Result<ExitCode, CliError> {
    let mut out = format!("{:>8}  {:<20}  {:>7}  {}\n", "REVISION", "TIME", "CHANGES", "WHAT");
    for revision in tollgate(settings)?.history()? {
        let number = |name: &str| revision.get(name).and_then(Value::as_u64).unwrap_or_default();
        let text = |name: &str| revision.get(name).and_then(Value::as_str).unwrap_or_default();
        let time = time(number("time"));
        out.push_str(&format!(
            "{:>8}  {time:<20}  {:>7}  {}: {}\n",
            number("revision"),
            number("changes"),
            text("author"),
            text("message")
        ));
    }
    print(&out);
    Ok(ExitCode::SUCCESS)
}

/// Brings back a revision.
pub(super) fn rollback(settings: &Settings, revision: u64) -> Result<ExitCode, CliError> {
    match tollgate(settings)?.rollback(revision)? {
        Some(new) => {
            print(&format!("The configuration is that of revision {revision} again, as revision {new}\n"))
        }
        None => print(&format!("Nothing has changed since revision {revision}\n")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds since 1970 as `2025-09-24T20:14:07Z`.
fn time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01 in the Gregorian calendar, whose years then end with the leap day.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest % 3600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(time(1_758_744_847), "2025-09-24T20:14:07Z");
    }
}
