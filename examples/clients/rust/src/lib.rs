//! The messages and the client, as tonic makes them from proto/.
tonic::include_proto!("sluice.v1");
