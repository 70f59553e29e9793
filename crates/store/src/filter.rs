//! Which entities a list shows.

/// A filter by tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagFilter {
    /// Entities with all of these.
    All(Vec<String>),
    /// Entities with any of these.
    Any(Vec<String>),
}

impl TagFilter {
    /// Reads `a,b` (all) or `a/b` (any); both at once, or an empty tag, is no filter.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = |separator| text.split(separator).map(str::to_owned).collect::<Vec<_>>();
        let filter = match (text.contains(','), text.contains('/')) {
            (true, true) => return None,
            (false, true) => Self::Any(parts('/')),
            _ => Self::All(parts(',')),
        };
        let (Self::All(tags) | Self::Any(tags)) = &filter;
        (!tags.iter().any(String::is_empty)).then_some(filter)
    }

    /// Whether an entity with these tags is shown.
    pub fn shows(&self, tags: &[&str]) -> bool {
        match self {
            Self::All(wanted) => wanted.iter().all(|tag| tags.contains(&tag.as_str())),
            Self::Any(wanted) => wanted.iter().any(|tag| tags.contains(&tag.as_str())),
        }
    }
}

/// One page of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The entities.
    pub entities: Vec<crate::Stored>,
    /// Where the next page starts; `None` on the last.
    pub next: Option<uuid::Uuid>,
}
