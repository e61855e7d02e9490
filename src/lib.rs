//! queen
