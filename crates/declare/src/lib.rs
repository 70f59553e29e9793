//! decK files and Kong's DB-less files: read with line numbers, checked, and turned into entities.

pub mod environment;
pub mod flatten;
mod hint;
mod invalid;
pub mod node;
pub mod plan;
pub mod resolve;
pub mod write;

pub use flatten::{Declaration, Declared, Dialect};
pub use invalid::Invalid;
pub use node::Node;
pub use resolve::{Entity, resolve};

/// Something wrong with a declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The file, where there are several.
    pub file: String,
    /// Line, from 1; 0 where it is not known.
    pub line: usize,
    /// Where in the document, such as `services[1].routes[1].paths`; list places count from 1.
    pub path: String,
    /// What is wrong, with the mend where there is one.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn at(file: &str, line: usize, path: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, path: path.to_owned(), message: message.into() }
    }

    /// The same, and how to mend it where there is something to say.
    #[must_use]
    pub fn with_hint(mut self, hint: &str) -> Self {
        if !hint.is_empty() {
            self.message.push_str(&format!(" ({hint})"));
        }
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}", self.file)?;
            if self.line > 0 {
                write!(f, ":{}", self.line)?;
            }
            write!(f, ": ")?;
        } else if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}
