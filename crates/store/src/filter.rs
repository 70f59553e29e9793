//! Which entities a list shows.

/// Tags a filter may name (Kong 3.11).
pub const MOST_TAGS: usize = 5;

/// Why a filter by tags is none (Kong 3.11: the texts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TagFilterError {
    /// Not written as one.
    #[error("invalid filter syntax")]
    Syntax,
    /// More tags than [`MOST_TAGS`].
    #[error("cannot query more than {MOST_TAGS} tags")]
    TooMany,
}

/// A filter by tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagFilter {
    /// Entities with all of these.
    All(Vec<String>),
    /// Entities with any of these.
    Any(Vec<String>),
}

impl TagFilter {
    /// Reads `a,b` (all) or `a/b` (any).
    ///
    /// # Errors
    /// Both at once, an empty tag, characters that no tag has, more than [`MOST_TAGS`].
    pub fn parse(text: &str) -> Result<Self, TagFilterError> {
        let parts = |separator| text.split(separator).map(str::to_owned).collect::<Vec<_>>();
        let filter = match (text.contains(','), text.contains('/')) {
            (true, true) => return Err(TagFilterError::Syntax),
            (false, true) => Self::Any(parts('/')),
            _ => Self::All(parts(',')),
        };
        let tags = filter.tags();
        let no_tag =
            |tag: &String| tag.is_empty() || tag.chars().any(|character| character.is_ascii_control());
        if tags.iter().any(no_tag) {
            return Err(TagFilterError::Syntax);
        }
        if tags.len() > MOST_TAGS { Err(TagFilterError::TooMany) } else { Ok(filter) }
    }

    /// The tags asked for.
    pub fn tags(&self) -> &[String] {
        let (Self::All(tags) | Self::Any(tags)) = self;
        tags
    }

    /// Whether an entity with these tags is shown.
    pub fn shows(&self, tags: &[&str]) -> bool {
        match self {
            Self::All(wanted) => wanted.iter().all(|tag| tags.contains(&tag.as_str())),
            Self::Any(wanted) => wanted.iter().any(|tag| tags.contains(&tag.as_str())),
        }
    }
}

/// A tag on an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The tag.
    pub tag: String,
    /// Kind of the entity.
    pub kind: tollgate_model::Kind,
    /// Its id.
    pub id: uuid::Uuid,
}

/// One page of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The entities.
    pub entities: Vec<crate::Stored>,
    /// Where the next page starts; `None` on the last.
    pub next: Option<uuid::Uuid>,
}

impl Page {
    /// Adds an entity, or notes it as the first of the next page where this one has `size` already; tells
    /// whether that is so.
    pub(crate) fn is_full_with(&mut self, entity: crate::Stored, size: usize) -> bool {
        if self.entities.len() == size {
            self.next = Some(entity.id);
            return true;
        }
        self.entities.push(entity);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        let read = TagFilter::parse;
        let owned = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        assert_eq!(read("a"), Ok(TagFilter::All(owned(&["a"]))));
        assert_eq!(read("a,b"), Ok(TagFilter::All(owned(&["a", "b"]))));
        assert_eq!(read("a/b"), Ok(TagFilter::Any(owned(&["a", "b"]))));
        assert_eq!(read("two words,ü"), Ok(TagFilter::All(owned(&["two words", "ü"]))));
        for wrong in ["", ",", "a,", "a//b", "a,b/c", "tab\there"] {
            assert_eq!(read(wrong), Err(TagFilterError::Syntax), "{wrong}");
        }
        assert!(read("1/2/3/4/5").is_ok());
        assert_eq!(read("1/2/3/4/5/6"), Err(TagFilterError::TooMany));
    }
}
