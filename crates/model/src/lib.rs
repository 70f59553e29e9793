//! Entities, references, the schema engine, and errors with field paths.
