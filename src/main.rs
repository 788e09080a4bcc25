//! The `marline` command: arguments in, exit code out. The only place that ends the process.

fn main() {
    std::process::exit(0);
}
