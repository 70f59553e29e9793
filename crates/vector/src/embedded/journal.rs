//! The file of the vectors: what was put and deleted, one record after the other, each with its checksum.
//!
//! A record is its length and its checksum (CRC-32), four bytes each, and then: what is done, the namespace and the
//! id (each with its length in four bytes), and the vector's numbers; the least significant byte is first. What is cut
//! short or damaged ends the reading: everything before it stands.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How the file begins.
const MAGIC: &[u8] = b"tollgate vectors 1\n";

/// Length and checksum before a record.
const HEAD: usize = 8;

/// What was done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record<'a> {
    Put { space: &'a str, id: &'a str, vector: Vec<f32> },
    Delete { space: &'a str, id: &'a str },
}

/// The open file.
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    /// Its length: everything up to here is whole.
    pub(crate) length: u64,
}

/// What was wrong with a file, and what became of it.
#[derive(Debug)]
pub(crate) struct Damage(pub(crate) String);

impl Journal {
    /// Opens the file, or makes it, and tells `each` what was done. What is damaged is left out, and the damage told.
    ///
    /// # Errors
    /// The file cannot be opened, or another process has it.
    pub(crate) fn open(path: &Path, mut each: impl FnMut(Record<'_>)) -> io::Result<(Self, Option<Damage>)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.try_lock().is_err() {
            return Err(io::Error::other("another process has it open"));
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let Some(records) = content.strip_prefix(MAGIC) else {
            // What was cut short while it was made is nothing anybody misses.
            let damage = (!MAGIC.starts_with(&content)).then(|| {
                let aside = path.with_extension("damaged");
                let kept = std::fs::copy(path, &aside);
                let kept =
                    kept.map_or_else(|error| error.to_string(), |_| format!("kept as {}", aside.display()));
                Damage(format!("it is no file of vectors ({kept}); the index starts empty"))
            });
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(MAGIC)?;
            return Ok((Self { file, path: path.to_owned(), length: MAGIC.len() as u64 }, damage));
        };
        let mut rest = records;
        while let Some((record, after)) = next(rest) {
            each(record);
            rest = after;
        }
        let length = (content.len() - rest.len()) as u64;
        let damage = (!rest.is_empty()).then(|| {
            let lost = rest.len();
            Damage(format!("it is damaged from byte {length} on; the {lost} bytes from there are forgotten"))
        });
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        Ok((Self { file, path: path.to_owned(), length }, damage))
    }

    /// Writes that something was done. Where that fails the file is as it was.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        let bytes = encode(record);
        if let Err(error) = self.file.write_all(&bytes) {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Puts a file of these records alone in the place of this one, at once or not at all.
    ///
    /// # Errors
    /// What the system says; the file is then as it was.
    pub(crate) fn rewrite<'a>(&mut self, records: impl Iterator<Item = Record<'a>>) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&beside)?;
        file.try_lock().map_err(io::Error::other)?;
        let mut writer = io::BufWriter::new(&mut file);
        let mut length = MAGIC.len() as u64;
        writer.write_all(MAGIC)?;
        for record in records {
            let bytes = encode(&record);
            writer.write_all(&bytes)?;
            length += bytes.len() as u64;
        }
        writer.flush()?;
        drop(writer);
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        (self.file, self.length) = (file, length);
        Ok(())
    }
}

/// How many bytes the record of a vector takes.
pub(crate) fn size(space: &str, id: &str, dimensions: usize) -> u64 {
    (HEAD + 1 + 4 + space.len() + 4 + id.len() + 4 * dimensions) as u64
}

fn encode(record: &Record<'_>) -> Vec<u8> {
    let (kind, space, id, vector) = match record {
        Record::Put { space, id, vector } => (b'+', space, id, vector.as_slice()),
        Record::Delete { space, id } => (b'-', space, id, [].as_slice()),
    };
    let mut bytes = vec![0; HEAD];
    bytes.push(kind);
    for text in [space, id] {
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    for number in vector {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let length = (bytes.len() - HEAD) as u32;
    let checksum = crc32fast::hash(bytes.get(HEAD..).unwrap_or_default());
    if let Some(head) = bytes.first_chunk_mut::<HEAD>() {
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4..].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

/// The record at the beginning, and what comes after it; `None` where that is none, or not whole.
fn next(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let (content, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (kind, content) = content.split_first()?;
    let (space, content) = text(content)?;
    let (id, numbers) = text(content)?;
    let record = match kind {
        b'+' => {
            let (numbers, []) = numbers.as_chunks::<4>() else { return None };
            Record::Put {
                space,
                id,
                vector: numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            }
        }
        b'-' => Record::Delete { space, id },
        _ => return None,
    };
    Some((record, after))
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}
