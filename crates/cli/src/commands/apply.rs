//! `sync`, `diff` and `apply`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_declare::plan::{Action, Desired, Event, Known, Surroundings, desired, plan, printed};
use tollgate_declare::{Declaration, Problem};

use super::{Now, control_plane, problems_of, schemas, tags_of};
use crate::arguments::{Apply, Diagnostics, Diff, Report, Selection, Sync};
use crate::client::CallError;
use crate::output::Reporter;
use crate::remote::Remote;
use crate::settings::Settings;
use crate::{CliError, diagnostics, files};

/// How the changes are made.
pub(super) struct Pace {
    /// Calls at a time.
    pub parallelism: usize,
    /// Time to wait after each kind of entity.
    pub delay: Duration,
}

impl Pace {
    fn new(parallelism: i64, delay: u64) -> Result<Self, CliError> {
        match usize::try_from(parallelism) {
            Ok(parallelism) if parallelism > 0 => Ok(Self { parallelism, delay: Duration::from_secs(delay) }),
            _ => Err(CliError::Message(format!("--parallelism cannot be less than 1, got {parallelism}"))),
        }
    }
}

/// Brings the server to what the files say.
pub(super) fn sync(settings: &Settings, flags: &Sync) -> Result<ExitCode, CliError> {
    let pace = Pace::new(flags.parallelism, flags.db_update_propagation_delay)?;
    let prepared = prepare(settings, &flags.files, &flags.selection, &flags.diagnostics, false, flags.yes)?;
    prepared.run(settings, &flags.report, &pace, "gateway sync")
}

/// Brings what the files say to the server, deleting nothing.
pub(super) fn apply(settings: &Settings, flags: &Apply) -> Result<ExitCode, CliError> {
    let pace = Pace::new(flags.parallelism, flags.db_update_propagation_delay)?;
    let selection = Selection { workspace: flags.workspace.clone(), ..Selection::default() };
    let prepared = prepare(settings, &flags.files, &selection, &flags.diagnostics, true, true)?;
    prepared.run(settings, &flags.report, &pace, "gateway apply")
}

/// Shows what a sync would do.
pub(super) fn diff(settings: &Settings, flags: &Diff) -> Result<ExitCode, CliError> {
    Pace::new(flags.parallelism, 0)?;
    let prepared = prepare(settings, &flags.files, &flags.selection, &flags.diagnostics, false, flags.yes)?;
    let reporter = prepared.reporter(settings, &flags.report);
    prepared.events.iter().for_each(|event| reporter.event(event));
    reporter.end(&prepared.events.iter().collect::<Vec<_>>(), &[], &[]);
    let changes = !prepared.events.is_empty() || prepared.new_workspace.is_some();
    Ok(ExitCode::from(if flags.non_zero_exit_code && changes { 2 } else { 0 }))
}

/// Changes that are known but not made.
struct Prepared {
    remote: Remote,
    declaration: Declaration,
    events: Vec<Event>,
    new_workspace: Option<String>,
}

fn prepare(
    settings: &Settings,
    inputs: &[String],
    selection: &Selection,
    codes: &Diagnostics,
    keep: bool,
    yes: bool,
) -> Result<Prepared, CliError> {
    selection.check()?;
    diagnostics::check_codes(codes)?;
    let mut declaration = files::read(inputs)?;
    diagnostics::check(&declaration, codes)?;
    choose_tags(&mut declaration, selection)?;
    if selection.skip_consumers_with_consumer_groups
        && declaration.select_tags.is_empty()
        && !yes
        && !crate::output::confirm(
            "Without select tags, members of consumer groups that are not in the files are not seen.\n> Do you want to continue? ",
        )
    {
        return Err(CliError::Message("nothing was changed".into()));
    }
    selection.check_members(&declaration)?;
    let workspace = choose_workspace(&declaration, selection);
    let konnect = declaration.konnect || settings.is_konnect();
    let remote = if konnect {
        Remote::konnect(settings, &control_plane(settings, Some(&declaration))?)?
    } else {
        Remote::kong(settings, workspace.as_deref())?.0
    };
    let mut new_workspace = None;
    if let Some(name) = workspace.filter(|_| !konnect && !settings.skip_workspaces)
        && !remote.has_workspace(&name)?
    {
        new_workspace = Some(name);
    }
    let is_new = new_workspace.is_some();
    let mut aside = Vec::new();
    for (kind, tags) in declaration.lookup_tags().into_iter().filter(|_| !is_new) {
        if tags.is_empty() {
            return Err(CliError::Message(format!("global {} specified but no global tags", kind.plural())));
        }
        aside.extend(remote.entities_of(&[kind], &tags)?);
    }
    let aside = Known::new(aside);
    let list =
        |tags: &[String]| if is_new { Ok(Vec::new()) } else { selection.entities(&remote, tags, &aside) };
    let current = Known::new(list(&declaration.select_tags)?);
    // What apply finds on the server may be referred to, with any tags.
    let everything =
        if keep && !declaration.select_tags.is_empty() { Some(Known::new(list(&[])?)) } else { None };
    let referable = match (&everything, keep) {
        (Some(everything), _) => everything,
        (None, true) => &current,
        (None, false) => &aside,
    };
    // A workspace that is not there yet has the schemas of all the others.
    let schemas = schemas(&remote, Some(&declaration), current.entities())?;
    let around = Surroundings { current: &current, referable, schemas: &schemas, source: &Now };
    let mut wanted: Vec<Desired> = desired(&declaration, &around).map_err(CliError::Problems)?;
    wanted.retain(|entity| selection.takes(entity.kind, &entity.fields));
    let events = plan(&current, wanted, &aside, &schemas, keep);
    Ok(Prepared { remote, declaration, events, new_workspace })
}

/// Tags of the flag and of the files must be the same where both are given.
fn choose_tags(declaration: &mut Declaration, selection: &Selection) -> Result<(), CliError> {
    let tags = tags_of(selection);
    if !tags.is_empty() && !declaration.select_tags.is_empty() && tags != declaration.select_tags {
        let list = |tags: &[String]| format!("[{}]", tags.join(" "));
        return Err(CliError::Message(format!(
            "tags specified in the state file ({}) and via --select-tags flag ({}) are different.\n\
             decK expects tags to be specified in either via flag or via state file",
            list(&declaration.select_tags),
            list(&tags)
        )));
    }
    if !tags.is_empty() {
        declaration.select_tags = tags;
    }
    Ok(())
}

fn choose_workspace(declaration: &Declaration, selection: &Selection) -> Option<String> {
    let of_file = declaration.workspace.as_deref().unwrap_or_default();
    match selection.workspace.as_deref() {
        Some(flag) => {
            if flag != of_file {
                eprintln!(
                    "Warning: Workspace '{flag}' specified via --workspace flag is different from workspace '{of_file}' found in state file(s)."
                );
            }
            Some(flag.to_owned())
        }
        None => declaration.workspace.clone(),
    }
}

impl Prepared {
    fn reporter(&self, settings: &Settings, report: &Report) -> Reporter {
        let mut reporter = Reporter::new(report, settings.no_color);
        if let Some(name) = &self.new_workspace {
            reporter.workspace(name);
        }
        reporter
    }

    fn run(
        &self,
        settings: &Settings,
        report: &Report,
        pace: &Pace,
        what: &str,
    ) -> Result<ExitCode, CliError> {
        let reporter = self.reporter(settings, report);
        if let Some(name) = &self.new_workspace {
            self.remote.create_workspace(name)?;
        }
        match make(&self.remote, &self.events, Some(&self.declaration), &reporter, pace, what) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            // decK reports errors of this phase in the document, and ends well.
            Err(_) if report.json_output => Ok(ExitCode::SUCCESS),
            Err(problems) => Err(CliError::Problems(problems)),
        }
    }
}

/// Makes the changes and reports them: a Tollgate takes all of them at once, or none; a Kong one by one.
pub(super) fn make(
    remote: &Remote,
    events: &[Event],
    declaration: Option<&Declaration>,
    reporter: &Reporter,
    pace: &Pace,
    what: &str,
) -> Result<(), Vec<Problem>> {
    let nothing = Declaration::default();
    let declaration = declaration.unwrap_or(&nothing);
    let done = if remote.is_tollgate {
        at_once(remote, events, declaration, reporter, what)
    } else {
        one_by_one(remote, events, declaration, reporter, pace)
    };
    let is_done = |place: &usize| done.finished.contains(place);
    let (finished, dropped): (Vec<usize>, Vec<usize>) = (0..events.len()).partition(is_done);
    let pick = |places: &[usize]| places.iter().filter_map(|place| events.get(*place)).collect::<Vec<_>>();
    let dropped = pick(&dropped);
    let errors: Vec<String> = done.problems.iter().map(ToString::to_string).collect();
    for event in dropped.iter().filter(|_| !remote.is_tollgate) {
        reporter.dropped(event);
    }
    reporter.end(&pick(&finished), &dropped, &errors);
    if done.problems.is_empty() { Ok(()) } else { Err(done.problems) }
}

struct Done {
    finished: std::collections::HashSet<usize>,
    problems: Vec<Problem>,
}

fn described(event: &Event) -> String {
    format!("{:?} {} {}", event.action, printed(event.kind), event.name)
}

fn at_once(
    remote: &Remote,
    events: &[Event],
    declaration: &Declaration,
    reporter: &Reporter,
    what: &str,
) -> Done {
    if events.is_empty() {
        return Done { finished: Default::default(), problems: Vec::new() };
    }
    let operations: Vec<Value> = events
        .iter()
        .map(|event| {
            let action = match event.action {
                Action::Create => "create",
                Action::Update => "update",
                Action::Delete => "delete",
            };
            let mut operation = json!({"action": action, "kind": event.kind.plural(), "id": event.id});
            if let (true, Some(operation)) = (event.action != Action::Delete, operation.as_object_mut()) {
                operation.insert("entity".into(), Value::Object(event.fields.clone()));
            }
            operation
        })
        .collect();
    let error = match remote.transaction(what, &operations) {
        Ok(()) => {
            events.iter().for_each(|event| reporter.event(event));
            return Done { finished: (0..events.len()).collect(), problems: Vec::new() };
        }
        Err(error) => error,
    };
    let mut problems = Vec::new();
    if let CallError::Status { status, body, .. } = &error {
        for one in body.get("errors").and_then(Value::as_array).into_iter().flatten() {
            let number = one.get("operation").and_then(Value::as_u64);
            let event = number.and_then(|number| events.get(usize::try_from(number).ok()?));
            let message = one.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
            let own = CallError::Status { status: *status, message, body: one.clone() };
            let (place, what) = event.map_or((None, String::new()), |event| (event.place, described(event)));
            problems.extend(problems_of(declaration, place, &what, &own));
        }
    }
    if problems.is_empty() {
        problems.extend(problems_of(declaration, None, what, &error));
    }
    Done { finished: Default::default(), problems }
}

fn one_by_one(
    remote: &Remote,
    events: &[Event],
    declaration: &Declaration,
    reporter: &Reporter,
    pace: &Pace,
) -> Done {
    let finished = Mutex::new(std::collections::HashSet::new());
    let problems = Mutex::new(Vec::new());
    let failed = AtomicBool::new(false);
    let lock = |mutex: &Mutex<std::collections::HashSet<usize>>, place: usize| {
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(place);
    };
    let mut start = 0;
    // Entities of one kind at the same time, one kind after the other.
    for row in events
        .chunk_by(|a, b| a.kind == b.kind && (a.action == Action::Delete) == (b.action == Action::Delete))
    {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..pace.parallelism.min(row.len()) {
                scope.spawn(|| {
                    while !failed.load(Ordering::Relaxed) {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let Some(event) = row.get(place) else { break };
                        reporter.event(event);
                        match call(remote, event) {
                            Ok(()) => lock(&finished, start + place),
                            Err(error) => {
                                failed.store(true, Ordering::Relaxed);
                                let what = described(event);
                                let mut list = vec![Problem::at(
                                    "",
                                    0,
                                    "",
                                    format!("while processing event: {what} failed: {error}"),
                                )];
                                if event.place.is_some() {
                                    list.extend(problems_of(declaration, event.place, &what, &error));
                                }
                                problems
                                    .lock()
                                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                                    .extend(list);
                            }
                        }
                    }
                });
            }
        });
        start += row.len();
        if failed.load(Ordering::Relaxed) {
            break;
        }
        if !pace.delay.is_zero() {
            std::thread::sleep(pace.delay);
        }
    }
    Done {
        finished: finished.into_inner().unwrap_or_default(),
        problems: problems.into_inner().unwrap_or_default(),
    }
}

fn call(remote: &Remote, event: &Event) -> Result<(), CallError> {
    let fields = Value::Object(event.fields.clone());
    match event.action {
        Action::Delete => remote.delete(event.kind, &event.id, &fields),
        Action::Create | Action::Update => {
            remote.put(event.kind, &event.id, &fields, event.action == Action::Update)
        }
    }
}
