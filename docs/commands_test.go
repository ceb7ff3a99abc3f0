package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// kubectl stands in for kubectl: it fails where $FAIL is in its arguments, prints what the upstream would
// answer, and notes what the central cluster would be sent.
const kubectl = `#!/bin/sh
case "$*" in
*"$FAIL"*) echo "kubectl: no connection" >&2; exit 1 ;;
*"config view"*) printf 'https://us-east.example.com:6443' ;;
*"get secret"*) printf 'server: SERVER\ntoken: abc' ;;
*"--context central"*) cat >>"$SENT" ;;
esac
`

// TestCredentialsAreHandedOverWholeOrNotAtAll runs the documented commands that make a
// Secret, once as they are and once with each of the commands that read failing.
func TestCredentialsAreHandedOverWholeOrNotAtAll(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte(kubectl), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ fail, want string }{
		"nothing fails":             {"none of these", "server: https://us-east.example.com:6443\ntoken: abc\n"},
		"the kubeconfig can't read": {"config view", ""},
		"the token can't be read":   {"get secret", ""},
	}
	for where, commands := range handingOver(t) {
		for name, tt := range tests {
			t.Run(where+"/"+name, func(t *testing.T) {
				sent := filepath.Join(t.TempDir(), "sent")
				cmd := exec.Command("sh")
				cmd.Stdin = strings.NewReader(commands)
				cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "FAIL="+tt.fail, "SENT="+sent)
				out, err := cmd.CombinedOutput()
				if failed := err != nil; failed != (tt.want == "") {
					t.Errorf("the commands end with %v:\n%s", err, out)
				}
				got, _ := os.ReadFile(sent) // it isn't there where nothing was sent
				if string(got) != tt.want {
					t.Errorf("the central cluster is sent %q, want %q, by\n%s", got, tt.want, commands)
				}
			})
		}
	}
}

// handingOver returns the documented commands that make a Secret of what a pipe brings, by where they are.
func handingOver(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, file := range []string{"README.md", "docs/operator-guide.md", "deploy/samples/upstreamcluster.yaml"} {
		text, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile(`(?m)(^(#  |   ) +.*\n)+`).FindAllString(string(text), -1) {
			if strings.Contains(block, "/dev/stdin") {
				block = regexp.MustCompile("(?m)^#").ReplaceAllString(block, "")
				found[file+", "+strings.Fields(block[strings.Index(block, "create secret"):])[3]+strings.Repeat("'", strings.Count(block, "replace"))] = block
			}
		}
	}
	if len(found) != 4 {
		t.Fatalf("%d places hand credentials over, want 4", len(found))
	}
	return found
}
