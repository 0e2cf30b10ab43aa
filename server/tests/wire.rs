//! The transport and the layers under tonic, with real sockets and misbehaving clients.

mod wire {
    mod admission;
    mod calls;
    mod connections;
    mod drain;
    mod harness;
    mod raw;
    mod scripted;
}
