//! The query languages of IoT Hub, DPS and Digital Twins: one lexer, one expression tree, one evaluator.
//! Domain crates parse with a front end (`hub`, `digital_twins`, `filter`, `route`, `enrollments`); `store` renders a `Plan` as SQL.
//! Pure: no I/O, no clock, no engine.

mod cursor;
pub mod digital_twins;
pub mod enrollments;
mod error;
pub mod evaluate;
pub mod filter;
mod functions;
pub mod hub;
mod parser;
pub mod plan;
pub mod reference;
pub mod route;
mod token;
pub mod tree;
pub mod value;

pub use error::SyntaxError;
pub use plan::Plan;
pub use token::Span;
