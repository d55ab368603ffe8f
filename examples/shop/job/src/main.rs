//! The job of the shop: adds up the orders there are, prints what was sold, and leaves it for the backend to show. To run it
//! twice makes the same report twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use coracle_sdk::Error;
use coracle_sdk::keyvalue::Bucket;
use serde::Deserialize;

#[derive(Deserialize)]
struct Order {
    product: String,
    quantity: u64,
    cents: u64,
}

#[coracle_sdk::main]
async fn main() -> Result<(), Error> {
    let report = report()?;
    Bucket::open("default")?.set("report", &report)?;
    print!("{report}");
    Ok(())
}

fn report() -> Result<String, Error> {
    let orders = Bucket::open("orders")?;
    let mut sold: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for number in orders.keys()? {
        let Some(order) = orders.get_json::<Order>(&number)? else { continue };
        let (pieces, cents) = sold.entry(order.product).or_default();
        *pieces += order.quantity;
        *cents += order.cents;
    }
    let mut text = String::new();
    for (product, (pieces, cents)) in sold {
        writeln!(text, "{pieces} × {product}: {}.{:02}", cents / 100, cents % 100)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_added_up() {
        let orders = Bucket::open("orders").unwrap();
        for (number, order) in [
            ("1", r#"{"number": 1, "product": "tea", "quantity": 2, "cents": 700}"#),
            ("2", r#"{"number": 2, "product": "cup", "quantity": 1, "cents": 1200}"#),
            ("3", r#"{"number": 3, "product": "tea", "quantity": 1, "cents": 350}"#),
        ] {
            orders.set(number, order).unwrap();
        }
        assert_eq!(report().unwrap(), "1 × cup: 12.00\n3 × tea: 10.50\n");
    }
}
