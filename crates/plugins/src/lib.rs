//! The plugins: one module each, one line each in the registry.
