//! The five operations on named values, compiled, and rendered for a request.

use std::borrow::Cow;

use super::pair;
use super::template::{EvaluationError, Scope, Template, TemplateError};

type Pairs = Vec<(Box<str>, Template)>;

/// Edits of named values, in the order in which they are done.
pub(super) struct Edits {
    remove: Vec<Box<str>>,
    rename: Pairs,
    replace: Pairs,
    add: Pairs,
    append: Pairs,
}

type RenderedPairs<'a> = Vec<(&'a str, Cow<'a, [u8]>)>;

/// Edits for one request.
pub(super) struct Rendered<'a> {
    pub(super) remove: &'a [Box<str>],
    pub(super) rename: RenderedPairs<'a>,
    pub(super) replace: RenderedPairs<'a>,
    pub(super) add: RenderedPairs<'a>,
    pub(super) append: RenderedPairs<'a>,
}

impl Edits {
    /// Compiles the lists of `remove`, `rename`, `replace`, `add` and `append`. The error comes with the operation
    /// it is in.
    pub(super) fn new(lists: [&[String]; 5]) -> Result<Self, (&'static str, TemplateError)> {
        let [remove, rename, replace, add, append] = lists;
        let compile = |list: &[String], operation: &'static str| -> Result<Pairs, _> {
            let pairs = list.iter().filter_map(|entry| pair::split(entry));
            pairs
                .map(|(name, value)| match Template::new(value) {
                    Ok(template) => Ok((name.into(), template)),
                    Err(error) => Err((operation, error)),
                })
                .collect()
        };
        Ok(Self {
            remove: remove
                .iter()
                .filter_map(|entry| pair::split(entry))
                .map(|(name, _)| name.into())
                .collect(),
            rename: compile(rename, "rename")?,
            replace: compile(replace, "replace")?,
            add: compile(add, "add")?,
            append: compile(append, "append")?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty()
            && [&self.rename, &self.replace, &self.add, &self.append].iter().all(|pairs| pairs.is_empty())
    }

    pub(super) fn render(&self, scope: &Scope<'_>) -> Result<Rendered<'_>, EvaluationError> {
        Ok(Rendered {
            remove: &self.remove,
            rename: render(&self.rename, scope)?,
            replace: render(&self.replace, scope)?,
            add: render(&self.add, scope)?,
            append: render(&self.append, scope)?,
        })
    }
}

fn render<'a>(pairs: &'a Pairs, scope: &Scope<'_>) -> Result<RenderedPairs<'a>, EvaluationError> {
    pairs.iter().map(|(name, template)| Ok((&**name, template.render(scope)?))).collect()
}
