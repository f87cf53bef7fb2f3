// Strongroom with the official Go SDK, unmodified. See README.md in the folder above.
package main

func main() {
	if !skipped("keys") {
		keys()
	}
	if !skipped("secrets") {
		secrets()
	}
	finish()
}
