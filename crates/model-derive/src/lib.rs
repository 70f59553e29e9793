//! `#[derive(Config)]`: from a struct (or an enum without fields) to its schema, defaults, checks and docs.
//!
//! Field attributes, all inside `#[config(…)]`:
//! - what the value is: `required`, `optional` (shown as such), `default = …`, `unique`, `auto`,
//!   `referenceable`, `encrypted` (`encrypted = false` for a secret that Kong's schema does not call so), `foreign = Kind::Service`, `rename = "…"`;
//! - checks: `between(a, b)`, `gt(x)`, `one_of(…)`, `not_one_of(…)`, `len_min(n)`, `len_max(n)`, `len_eq(n)`,
//!   `starts_with("…")`, `uuid`, `timestamp`, `is_regex`, `eq(…)`, `ne(…)`, `contains(…)`,
//!   `matches(pattern = "…", regex = "…", error = "…", negated)`,
//!   `matches_any(patterns = […], regex = "…", error = "…")`, `exclusive_subsets([…], […])`,
//!   `check = path::to::function`, and `error = "…"` for the message of any of them;
//! - parts: `each(…)` for elements, `keys(…)` and `values(…)` for maps, `record_default("field", …)` for a
//!   record whose default is made of its fields', `field_default("field", …)` for a record that is used here with
//!   another default of a field;
//! - how it is shown: `transient` (not filled in), `hidden` (not in `/schemas`),
//!   `deprecated(message = "…", removal = "…")`;
//! - input only: `shorthand = "path.of.its.heir"` for a deprecated name, `shorthand(expand = function)` for a
//!   field that stands for others.
//!
//! On the struct: `checks = [EntityCheck::…]`, or any expression that gives a list of them.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Data, DeriveInput, Expr, Fields, Ident, LitStr, Token, parenthesized};

/// Derives `tollgate_model::Config` (and the value conversions that go with it).
#[proc_macro_derive(Config, attributes(config))]
pub fn derive_config(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    let derived = match &input.data {
        Data::Struct(data) => derive_struct(&input, &data.fields),
        Data::Enum(data) => derive_enum(&input, data),
        Data::Union(_) => Err(syn::Error::new_spanned(&input.ident, "a union has no schema")),
    };
    derived.unwrap_or_else(syn::Error::into_compile_error).into()
}

/// One item of `#[config(…)]`: a word, `word = expression`, or `word(…)`.
struct Item {
    name: Ident,
    value: Option<Expr>,
    list: Option<TokenStream>,
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name: Ident = input.parse()?;
        if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            return Ok(Self { name, value: Some(input.parse()?), list: None });
        }
        if input.peek(syn::token::Paren) {
            let content;
            parenthesized!(content in input);
            return Ok(Self { name, value: None, list: Some(content.parse()?) });
        }
        Ok(Self { name, value: None, list: None })
    }
}

fn items(attributes: &[Attribute]) -> syn::Result<Vec<Item>> {
    let mut all = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("config")) {
        all.extend(attribute.parse_args_with(Punctuated::<Item, Token![,]>::parse_terminated)?);
    }
    Ok(all)
}

fn parse_items(tokens: TokenStream) -> syn::Result<Vec<Item>> {
    use syn::parse::Parser;
    Ok(Punctuated::<Item, Token![,]>::parse_terminated.parse2(tokens)?.into_iter().collect())
}

fn arguments(tokens: &TokenStream) -> syn::Result<Vec<Expr>> {
    use syn::parse::Parser;
    Ok(Punctuated::<Expr, Token![,]>::parse_terminated.parse2(tokens.clone())?.into_iter().collect())
}

/// The rustdoc of an item as one line.
fn documentation(attributes: &[Attribute]) -> String {
    let mut words = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && let Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value
        {
            words.push(text.value().trim().to_owned());
        }
    }
    words.join(" ").trim().to_owned()
}

/// Statements that apply attribute items to a `Shape` called `shape`.
fn shape_statements(items: Vec<Item>) -> syn::Result<Vec<TokenStream>> {
    let mut statements = Vec::new();
    for item in items {
        let name = item.name.to_string();
        let constraint = |tokens: TokenStream| quote!(shape.constraints.push(::tollgate_model::schema::Constraint::#tokens););
        let value =
            || item.value.clone().ok_or_else(|| syn::Error::new_spanned(&item.name, "needs `= value`"));
        let list = || arguments(&item.list.clone().unwrap_or_default());
        let first = || {
            list()?.into_iter().next().ok_or_else(|| syn::Error::new_spanned(&item.name, "needs an argument"))
        };
        statements.push(match name.as_str() {
            "rename" | "shorthand" | "legacy" => continue,
            "required" => quote!(shape.required = true;),
            "optional" => quote!(shape.required = false; shape.optional = true;),
            "transient" => quote!(shape.transient = true;),
            "hidden" => quote!(shape.hidden = true;),
            "error" => {
                let message = value()?;
                quote!(shape.error = Some(#message);)
            }
            "deprecated" => deprecation_statement(item.list.clone().unwrap_or_default())?,
            "record_default" => {
                let names = list()?;
                quote!(shape.record_default(&[#(#names),*]);)
            }
            "field_default" => {
                let [name, value] = <[Expr; 2]>::try_from(list()?)
                    .map_err(|_| syn::Error::new_spanned(&item.name, "field_default(\"field\", value)"))?;
                quote!(shape.field_default(#name, ::tollgate_model::json!(#value));)
            }
            "unique" => quote!(shape.unique = true;),
            "auto" => quote!(shape.auto = true;),
            "referenceable" => quote!(shape.referenceable = true;),
            "encrypted" => {
                let is = item.value.as_ref().map_or_else(|| quote!(true), |value| quote!(#value));
                quote!(shape.encrypted = #is;)
            }
            "default" => {
                let value = value()?;
                quote!(shape.default = Some(::tollgate_model::json!(#value));)
            }
            "foreign" => {
                let kind = value()?;
                quote!(shape.kind = ::tollgate_model::schema::FieldType::Foreign(#kind);)
            }
            "check" => {
                let function = value()?;
                let label = quote!(#function).to_string();
                constraint(quote!(Custom(#label, #function)))
            }
            "uuid" => constraint(quote!(Uuid)),
            "timestamp" => constraint(quote!(Timestamp)),
            "is_regex" => constraint(quote!(Regex)),
            "exclusive_subsets" => {
                let subsets = list()?;
                constraint(quote!(ExclusiveSubsets(&[#(&#subsets),*])))
            }
            "contains" => {
                let wanted = first()?;
                constraint(quote!(Contains(::tollgate_model::json!(#wanted))))
            }
            "ne" => {
                let tokens = item.list.clone().unwrap_or_default();
                constraint(quote!(Ne(::tollgate_model::json!(#tokens))))
            }
            "between" => {
                let [low, high] = <[Expr; 2]>::try_from(list()?)
                    .map_err(|_| syn::Error::new_spanned(&item.name, "between(low, high)"))?;
                constraint(quote!(Between(#low as f64, #high as f64)))
            }
            "gt" => {
                let bound = first()?;
                constraint(quote!(Gt(#bound as f64)))
            }
            "len_min" => {
                let count = first()?;
                constraint(quote!(LenMin(#count)))
            }
            "len_max" => {
                let count = first()?;
                constraint(quote!(LenMax(#count)))
            }
            "len_eq" => {
                let count = first()?;
                constraint(quote!(LenEq(#count)))
            }
            "starts_with" => {
                let prefix = first()?;
                constraint(quote!(StartsWith(#prefix)))
            }
            "one_of" => {
                let values = list()?;
                constraint(quote!(OneOf(vec![#(::tollgate_model::json!(#values)),*])))
            }
            "not_one_of" => {
                let values = list()?;
                constraint(quote!(NotOneOf(vec![#(::tollgate_model::json!(#values)),*])))
            }
            "eq" => {
                let tokens = item.list.clone().unwrap_or_default();
                constraint(quote!(Eq(::tollgate_model::json!(#tokens))))
            }
            "matches" => matches_statement(item.list.clone().unwrap_or_default())?,
            "matches_any" => matches_any_statement(item.list.clone().unwrap_or_default())?,
            "each" => nested(item.list.clone().unwrap_or_default(), quote!(element_mut))?,
            "keys" => nested(item.list.clone().unwrap_or_default(), quote!(keys_mut))?,
            "values" => nested(item.list.clone().unwrap_or_default(), quote!(values_mut))?,
            _ => return Err(syn::Error::new_spanned(&item.name, format!("unknown attribute `{name}`"))),
        });
    }
    Ok(statements)
}

fn nested(tokens: TokenStream, accessor: TokenStream) -> syn::Result<TokenStream> {
    let statements = shape_statements(parse_items(tokens)?)?;
    Ok(quote!(if let Some(shape) = shape.#accessor() { #(#statements)* shape.sort_constraints(); }))
}

fn matches_statement(tokens: TokenStream) -> syn::Result<TokenStream> {
    let (mut pattern, mut regex, mut error, mut negated) = (quote!(""), quote!(""), quote!(None), false);
    for item in parse_items(tokens)? {
        let value = item.value;
        match item.name.to_string().as_str() {
            "pattern" => pattern = quote!(#value),
            "regex" => regex = quote!(#value),
            "error" => error = quote!(Some(#value)),
            "negated" => negated = true,
            _ => return Err(syn::Error::new_spanned(&item.name, "pattern, regex, error or negated")),
        }
    }
    Ok(quote!(shape.constraints.push(::tollgate_model::schema::Constraint::Match {
        pattern: #pattern, regex: #regex, error: #error, negated: #negated
    });))
}

fn matches_any_statement(tokens: TokenStream) -> syn::Result<TokenStream> {
    let (mut patterns, mut regex, mut error) = (quote!([]), quote!(""), quote!(""));
    for item in parse_items(tokens)? {
        let value = item.value;
        match item.name.to_string().as_str() {
            "patterns" => patterns = quote!(#value),
            "regex" => regex = quote!(#value),
            "error" => error = quote!(#value),
            _ => return Err(syn::Error::new_spanned(&item.name, "patterns, regex or error")),
        }
    }
    Ok(quote!(shape.constraints.push(::tollgate_model::schema::Constraint::MatchAny {
        patterns: &#patterns, regex: #regex, error: #error
    });))
}

fn deprecation_statement(tokens: TokenStream) -> syn::Result<TokenStream> {
    let (mut message, mut removal) = (quote!(""), quote!("4.0"));
    for item in parse_items(tokens)? {
        let value = item.value;
        match item.name.to_string().as_str() {
            "message" => message = quote!(#value),
            "removal" => removal = quote!(#value),
            _ => return Err(syn::Error::new_spanned(&item.name, "message or removal")),
        }
    }
    Ok(quote!(shape.deprecation = Some(::tollgate_model::schema::Deprecation {
        message: #message, removal_in_version: #removal
    });))
}

/// What takes a shorthand's place: its heir's path and the function that expands it.
fn shorthand(items: &[Item]) -> syn::Result<Option<(TokenStream, TokenStream)>> {
    let Some(item) = items.iter().find(|item| item.name == "shorthand") else { return Ok(None) };
    if let Some(path) = &item.value {
        return Ok(Some((quote!(Some(#path)), quote!(None))));
    }
    for inner in parse_items(item.list.clone().unwrap_or_default())? {
        if inner.name == "expand"
            && let Some(function) = inner.value
        {
            return Ok(Some((quote!(None), quote!(Some(#function)))));
        }
    }
    Err(syn::Error::new_spanned(&item.name, "shorthand = \"heir\" or shorthand(expand = function)"))
}

fn renamed(items: &[Item]) -> syn::Result<Option<String>> {
    for item in items.iter().filter(|item| item.name == "rename") {
        let Some(value) = &item.value else { continue };
        let text: LitStr = syn::parse2(quote!(#value))?;
        return Ok(Some(text.value()));
    }
    Ok(None)
}

fn derive_struct(input: &DeriveInput, fields: &Fields) -> syn::Result<TokenStream> {
    let Fields::Named(fields) = fields else {
        return Err(syn::Error::new_spanned(&input.ident, "a schema needs named fields"));
    };
    let ident = &input.ident;
    let checks =
        items(&input.attrs)?.into_iter().find(|item| item.name == "checks").and_then(|item| item.value);
    let checks = match checks {
        Some(Expr::Array(list)) => {
            let list = list.elems.iter();
            quote!(vec![#(#list),*])
        }
        Some(list) => quote!(#list),
        None => quote!(Vec::new()),
    };
    let (mut definitions, mut shorthands, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    for field in &fields.named {
        let Some(name) = &field.ident else { continue };
        let field_items = items(&field.attrs)?;
        let label =
            renamed(&field_items)?.unwrap_or_else(|| name.to_string().trim_start_matches("r#").to_owned());
        let shorthand = shorthand(&field_items)?;
        let (replaced_by, expand) = shorthand.clone().unwrap_or_else(|| (quote!(None), quote!(None)));
        let description = documentation(&field.attrs);
        let kind = &field.ty;
        let statements = shape_statements(field_items)?;
        let definition = quote!({
            let mut shape = <#kind as ::tollgate_model::schema::ConfigValue>::shape();
            shape.description = #description;
            #(#statements)*
            shape.sort_constraints();
            ::tollgate_model::Field { name: #label, shape, replaced_by: #replaced_by, expand: #expand }
        });
        if shorthand.is_some() {
            shorthands.push(definition)
        } else {
            definitions.push(definition)
        }
        readers.push(quote!(#name: ::tollgate_model::schema::read_field(value, #label)?));
    }
    Ok(quote! {
        impl ::tollgate_model::Config for #ident {
            fn schema() -> &'static ::tollgate_model::Record {
                static SCHEMA: ::std::sync::LazyLock<::tollgate_model::Record> = ::std::sync::LazyLock::new(|| ::tollgate_model::Record {
                    fields: vec![#(#definitions),*],
                    checks: #checks,
                    shorthands: vec![#(#shorthands),*],
                });
                &SCHEMA
            }

            fn from_checked(value: &::tollgate_model::Value) -> ::std::result::Result<Self, ::tollgate_model::FieldErrors> {
                Ok(Self { #(#readers),* })
            }
        }

        impl ::tollgate_model::schema::ConfigValue for #ident {
            fn shape() -> ::tollgate_model::schema::Shape {
                ::tollgate_model::schema::Shape::new(::tollgate_model::FieldType::Record(
                    <Self as ::tollgate_model::Config>::schema().clone(),
                ))
            }

            fn read(value: &::tollgate_model::Value) -> ::std::result::Result<Self, ::tollgate_model::FieldErrors> {
                <Self as ::tollgate_model::Config>::from_checked(value)
            }
        }
    })
}

fn derive_enum(input: &DeriveInput, data: &syn::DataEnum) -> syn::Result<TokenStream> {
    let ident = &input.ident;
    let (mut names, mut variants) = (Vec::new(), Vec::new());
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(syn::Error::new_spanned(variant, "a variant with fields has no schema"));
        }
        let name = renamed(&items(&variant.attrs)?)?;
        names.push(name.unwrap_or_else(|| kebab(&variant.ident.to_string())));
        variants.push(&variant.ident);
    }
    Ok(quote! {
        impl #ident {
            /// The name in configuration.
            pub fn name(self) -> &'static str {
                match self { #(Self::#variants => #names),* }
            }
        }

        impl ::tollgate_model::schema::ConfigValue for #ident {
            fn shape() -> ::tollgate_model::schema::Shape {
                let mut shape = ::tollgate_model::schema::Shape::new(::tollgate_model::FieldType::String);
                shape.constraints.push(::tollgate_model::schema::Constraint::OneOf(vec![#(::tollgate_model::json!(#names)),*]));
                shape
            }

            fn read(value: &::tollgate_model::Value) -> ::std::result::Result<Self, ::tollgate_model::FieldErrors> {
                match value.as_str() {
                    #(Some(#names) => Ok(Self::#variants),)*
                    _ => Err(::tollgate_model::schema::unchecked("one of its names")),
                }
            }
        }
    })
}

/// `LeastConnections` → `least-connections`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (index, character) in name.char_indices() {
        if character.is_uppercase() && index > 0 {
            out.push('-');
        }
        out.extend(character.to_lowercase());
    }
    out
}
