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
    /// What is wrong.
    pub message: String,
    /// How to mend it; empty where there is nothing to say.
    pub hint: String,
}

impl Problem {
    /// A problem without a hint.
    pub fn at(file: &str, line: usize, path: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            path: path.to_owned(),
            message: message.into(),
            hint: String::new(),
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: String) -> Self {
        self.hint = hint;
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
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}
