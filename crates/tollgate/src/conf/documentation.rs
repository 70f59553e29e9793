//! The page about the configuration, made of the properties themselves.

use super::property::{PROPERTIES, others};

/// `docs/configuration.md`
pub fn documentation() -> String {
    let mut page = String::from(
        "<!-- Written by `tollgate config properties`; change crates/tollgate/src/conf/property.rs instead. -->\n\
         # Configuration\n\n\
         A property is set, from the strongest: by a flag (`--prefix`), by a variable `TOLLGATE_<PROPERTY>`, by a variable \
         `KONG_<PROPERTY>`, by a line `property = value` of the configuration file, by its default. The file is the one \
         given with `--conf`, else the first there is of `/etc/tollgate/tollgate.conf`, `/etc/kong/kong.conf` and \
         `/etc/kong.conf`. In it, `#` begins a comment (`\\#` is the character itself); lists are separated by commas; \
         switches are `on` or `off`; `NONE` or nothing unsets a property. A value `{vault://env/name}` is that of the \
         variable `NAME`.\n\n\
         `tollgate check` says whether a configuration is valid, `tollgate --v start` what was set and where. A name that is \
         not known is warned about. `tollgate reload` has a running node read the file again.\n\n\
         | property | default | what it does |\n| --- | --- | --- |\n",
    );
    for property in PROPERTIES {
        let default =
            if property.default.is_empty() { String::new() } else { format!("`{}`", property.default) };
        let secret = if property.secret { " Never shown." } else { "" };
        page.push_str(&format!("| `{}` | {default} | {}{secret} |\n", property.name, property.about));
    }
    page.push_str(
        "\n## Accepted without effect\n\n\
         Kong's properties for what works in another way here, or not at all. So are all other `nginx_*`, `vault_*` and \
         `pluginserver_*` properties.\n\n",
    );
    let list: Vec<String> = others().map(|name| format!("`{name}`")).collect();
    page.push_str(&list.join(", "));
    page.push('\n');
    page
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_up_to_date() {
        let page = include_str!("../../../../docs/configuration.md");
        assert!(
            page == super::documentation(),
            "run: cargo run -p tollgate -- config properties > docs/configuration.md"
        );
    }
}
