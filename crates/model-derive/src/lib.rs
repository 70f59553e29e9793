//! The Config derive: one struct gives schema, defaults, checks and docs.
