// A program for the containers that tests run. Without arguments it waits for a signal, as the sandbox of a pod does.
//
//	probe serve PORT     answers every request with 200
//	probe resolve NAME   prints the addresses of a host name
//	probe fetch URL      prints an answer; fails unless it is a 200
//	probe write FILE     writes a line, "written", to a file
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func serve(port string) error {
	fmt.Println("listening on port", port)
	answer := func(writer http.ResponseWriter, _ *http.Request) { fmt.Fprintln(writer, "here") }
	return http.ListenAndServe(":"+port, http.HandlerFunc(answer))
}

func resolve(name string) error {
	addresses, err := net.LookupHost(name)
	fmt.Println(strings.Join(addresses, "\n"))
	return err
}

func fetch(url string) error {
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, answer.Status)
	}
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

func write(file string) error { return os.WriteFile(file, []byte("written\n"), 0o644) }

func wait() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
}

func main() {
	commands := map[string]func(string) error{"serve": serve, "resolve": resolve, "fetch": fetch, "write": write}
	if len(os.Args) == 1 {
		wait()
		return
	}
	command, known := commands[os.Args[1]]
	if !known || len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: probe [serve PORT | resolve NAME | fetch URL | write FILE]")
		os.Exit(2)
	}
	if err := command(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}
