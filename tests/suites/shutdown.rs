//! Shutdown: what was accepted is answered, what is refused was not executed, and it ends.

mod age;
mod deadline;
mod load;
mod signal;
