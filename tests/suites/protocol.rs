//! What clients may count on: every method of the protocol, seen from outside.

mod datatypes;
mod describing;
mod health;
mod mode;
mod models;
mod order;
mod reflection;
mod shapes;
mod statistics;
mod typed;
