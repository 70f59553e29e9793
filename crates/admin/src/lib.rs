//! Admin API, Konnect-shaped control-plane API, Status API, console.
