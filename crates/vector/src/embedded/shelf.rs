//! All vectors of a node, by namespaces.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tollgate_telemetry::log;

use super::journal::{Journal, Record, size};
use super::rows::{Rows, Space};

/// A file is not written anew before it has so many bytes.
const SMALL: u64 = 1 << 20;

/// All vectors of a node.
#[derive(Default)]
pub struct Shelf {
    spaces: Mutex<HashMap<String, Space>>,
    /// Held while the file is written, which searches do not wait for.
    file: Mutex<Option<Backing>>,
}

/// The file, and how much of it is of use.
struct Backing {
    journal: Journal,
    used: u64,
}

static FILE: OnceLock<PathBuf> = OnceLock::new();

impl Shelf {
    /// Has the node's shelf ([`Shelf::of_node`]) keep its vectors in this file. It is opened when the shelf is first
    /// needed.
    pub fn keep_in(path: PathBuf) {
        // A node keeps its prefix for as long as it runs.
        let _ = FILE.set(path);
    }

    /// The node's shelf; it lasts no longer than the process where no file is set.
    pub fn of_node() -> Arc<Self> {
        static SHELF: OnceLock<Arc<Shelf>> = OnceLock::new();
        let open = || Arc::new(FILE.get().map_or_else(Self::default, |path| Self::open(path)));
        Arc::clone(SHELF.get_or_init(open))
    }

    /// A shelf with what a file holds. Whatever is wrong with the file is logged: vectors can be made again, so it is
    /// no reason not to serve.
    pub fn open(path: &Path) -> Self {
        let (mut spaces, mut used) = (HashMap::<String, Space>::new(), 0);
        let opened = Journal::open(path, |record| match record {
            Record::Put { space: name, id, vector } => {
                let space = spaces.entry(name.to_owned()).or_default();
                if space.put(id, &vector) {
                    used += size(name, id, vector.len());
                }
            }
            Record::Delete { space: name, id } => {
                if let Some(space) = spaces.get_mut(name) {
                    let dimensions = space.dimensions();
                    if space.delete(id) {
                        used = used.saturating_sub(size(name, id, dimensions));
                    }
                }
            }
        });
        let file = match opened {
            Ok((journal, damage)) => {
                if let Some(damage) = damage {
                    log!(Warn, "{}: {}; vectors that are missing are made anew", path.display(), damage.0);
                }
                Some(Backing { journal, used })
            }
            Err(error) => {
                let path = path.display();
                log!(Error, "{path}: {error}; vectors are kept in memory alone until the node is restarted");
                None
            }
        };
        Self { spaces: Mutex::new(spaces), file: Mutex::new(file) }
    }

    fn spaces(&self) -> MutexGuard<'_, HashMap<String, Space>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The vectors of a namespace as they are now.
    pub(super) fn rows(&self, space: &str) -> Option<Arc<Rows>> {
        self.spaces().get(space).map(Space::rows)
    }

    pub(super) fn has(&self, space: &str, id: &str) -> bool {
        self.spaces().get(space).is_some_and(|space| space.has(id))
    }

    /// Keeps a vector. Writes to the file, which takes time.
    pub(super) fn put(&self, space: &str, id: &str, vector: &[f32]) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = self.spaces().entry(space.to_owned()).or_default().put(id, vector);
        if let Some(backing) = &mut *file {
            backing.used += if is_new { size(space, id, vector.len()) } else { 0 };
            self.write(backing, &Record::Put { space, id, vector: vector.to_vec() });
        }
    }

    /// Forgets a vector. Writes to the file, which takes time.
    pub(super) fn delete(&self, space: &str, id: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let deleted = {
            let mut spaces = self.spaces();
            let Some(within) = spaces.get_mut(space) else { return };
            let dimensions = within.dimensions();
            let deleted = within.delete(id).then_some(dimensions);
            if within.rows().len() == 0 {
                spaces.remove(space);
            }
            deleted
        };
        if let (Some(dimensions), Some(backing)) = (deleted, &mut *file) {
            backing.used = backing.used.saturating_sub(size(space, id, dimensions));
            self.write(backing, &Record::Delete { space, id });
        }
    }

    /// Writes a record, and the whole file anew once most of it is of no more use.
    fn write(&self, backing: &mut Backing, record: &Record<'_>) {
        let written = backing.journal.write(record).and_then(|()| {
            if backing.journal.length <= SMALL || backing.journal.length / 2 <= backing.used {
                return Ok(());
            }
            let spaces: Vec<(String, Arc<Rows>)> =
                self.spaces().iter().map(|(name, space)| (name.clone(), space.rows())).collect();
            let records = spaces.iter().flat_map(|(space, rows)| {
                rows.vectors().map(move |(id, vector)| Record::Put { space, id, vector: vector.to_vec() })
            });
            backing.journal.rewrite(records)
        });
        if let Err(error) = written {
            log!(
                Error,
                "the file of vectors cannot be written: {error}; what is missing there is made anew after a restart"
            );
        }
    }
}
