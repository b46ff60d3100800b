// Renders ghz's JSON report as the HTML page that ghz itself would have written: a run of ghz gives
// one format only, and the gates need the JSON. It judges nothing.
//
//	ghz-html < report.json > report.html
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/bojand/ghz/printer"
	"github.com/bojand/ghz/runner"
)

func main() {
	var report runner.Report
	if err := json.NewDecoder(os.Stdin).Decode(&report); err != nil {
		log.Fatalf("not a report of ghz: %v", err)
	}
	pages := printer.ReportPrinter{Report: &report, Out: os.Stdout}
	if err := pages.Print("html"); err != nil {
		log.Fatal(err)
	}
}
