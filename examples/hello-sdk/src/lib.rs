//! The shortest HTTP service there is with the SDK: one function. It does not look at the request, so nothing of it is
//! copied into the component.
//!
//! Run with, in `examples`,
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2
//! coracle run target/wasm32-wasip2/release/hello_sdk.wasm --listen 127.0.0.1:8000
//! curl http://127.0.0.1:8000/
//! ```

#[coracle_sdk::http]
async fn hello() -> &'static str {
    "Hello from Coracle!\n"
}

#[cfg(test)]
mod tests {
    #[coracle_sdk::test]
    async fn it_says_hello() {
        assert_eq!(super::hello().await, "Hello from Coracle!\n");
    }
}
