fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().build_server(false).compile_protos(&["sluice/v1/runtime.proto"], &["../../../proto"])
}
