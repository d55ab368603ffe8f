//! The attributes of `coracle-sdk`, which documents and re-exports them.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Error, FnArg, ItemFn};

/// Makes an `async fn` the handler of an HTTP service.
///
/// It takes the request, or nothing, and returns whatever is `IntoResponse`. The component exports
/// `wasi:http/incoming-handler`; natively the function is an ordinary one.
#[proc_macro_attribute]
pub fn http(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments.into(), item, |function| {
        require_plain(&function, "#[coracle_sdk::http]", 1)?;
        let name = &function.sig.ident;
        // Without an argument the request is not even looked at.
        let call = match function.sig.inputs.first() {
            Some(_) => {
                quote!(async |incoming: ::coracle_sdk::private::Incoming| Ok(#name(incoming.request()?).await))
            }
            None => quote!(async |_: ::coracle_sdk::private::Incoming| Ok(#name().await)),
        };
        Ok(quote! {
            // Natively only tests call it.
            #[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
            #function

            #[cfg(target_family = "wasm")]
            const _: () = {
                struct Component;

                impl ::coracle_sdk::private::wasip2::exports::http::incoming_handler::Guest for Component {
                    fn handle(
                        request: ::coracle_sdk::private::wasip2::http::types::IncomingRequest,
                        out: ::coracle_sdk::private::wasip2::http::types::ResponseOutparam,
                    ) {
                        ::coracle_sdk::private::serve(request, out, #call);
                    }
                }

                ::coracle_sdk::private::wasip2::http::proxy::export!(Component);
            };
        })
    })
}

/// Makes an `async fn main` the program of a batch task.
///
/// It takes the arguments as a `Vec<String>`, without the program's own name, or nothing, and returns whatever is an
/// `Outcome`: nothing, an exit code, or a `Result` of them.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments.into(), item, |mut function| {
        require_plain(&function, "#[coracle_sdk::main]", 1)?;
        if function.sig.ident != "main" {
            return Err(Error::new_spanned(
                &function.sig.ident,
                "#[coracle_sdk::main] is for `async fn main`",
            ));
        }
        function.sig.ident = syn::Ident::new("task", function.sig.ident.span());
        let call = match function.sig.inputs.first() {
            Some(_) => quote!(task),
            None => quote!(|_| task()),
        };
        Ok(quote! {
            fn main() {
                #function
                ::coracle_sdk::private::run(#call);
            }
        })
    })
}

/// Makes an `async fn` without arguments a test.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments.into(), item, |function| {
        require_plain(&function, "#[coracle_sdk::test]", 0)?;
        let ItemFn { attrs, vis, sig, block } = function;
        let (name, output) = (&sig.ident, &sig.output);
        Ok(quote! {
            #[::core::prelude::v1::test]
            #(#attrs)*
            #vis fn #name() #output {
                ::coracle_sdk::block_on(async #block)
            }
        })
    })
}

fn expand(
    arguments: Tokens,
    item: TokenStream,
    expansion: impl FnOnce(ItemFn) -> Result<Tokens, Error>,
) -> TokenStream {
    let expanded = match arguments.into_iter().next() {
        Some(argument) => Err(Error::new_spanned(argument, "this attribute takes no arguments")),
        None => syn::parse(item).and_then(expansion),
    };
    expanded.unwrap_or_else(|error| error.to_compile_error()).into()
}

/// An `async fn` of so many arguments at most, and nothing that could not be called by name.
fn require_plain(function: &ItemFn, attribute: &str, most: usize) -> Result<(), Error> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new_spanned(signature.fn_token, format!("{attribute} is for an `async fn`")));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            format!("{attribute} can't fill in generic parameters"),
        ));
    }
    if let Some(receiver @ FnArg::Receiver(_)) = signature.inputs.first() {
        return Err(Error::new_spanned(receiver, format!("{attribute} is for a function, not for a method")));
    }
    if let Some(argument) = signature.inputs.iter().nth(most) {
        let takes = if most == 0 { "no arguments" } else { "one argument, or none" };
        return Err(Error::new_spanned(argument, format!("a function with {attribute} takes {takes}")));
    }
    Ok(())
}
