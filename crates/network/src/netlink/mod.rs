//! Netlink, as much of it as is needed: messages and sockets.
