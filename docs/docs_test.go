// Package docs_test keeps the documentation true to the code as far as a program can.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/projectcontour/gimbal/api/v1alpha1"
)

// pages returns the Markdown pages by their path from the root of the repository.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "bin"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, "../")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var (
	code = regexp.MustCompile("(?ms)^ *```.*?^ *```$|`[^`\n]*`")
	link = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

func TestLinksResolve(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(filepath.Join("..", path)); err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(all[path]), anchor) {
				t.Errorf("%s: link to %s: there is no such heading", page, m[1])
			}
		}
	}
}

var heading = regexp.MustCompile(`(?m)^#+ (.+)$`)

// anchors returns the anchors that GitHub gives a page's headings.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.ReplaceAll(regexp.MustCompile(`[^-_ a-z0-9]`).ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

var example = regexp.MustCompile("(?ms)^( *)```yaml\n(.*?)^ *```$")

func TestExamplesDecode(t *testing.T) {
	upstreams := 0
	for page, text := range pages(t) {
		for _, m := range example.FindAllStringSubmatch(text, -1) {
			manifest := regexp.MustCompile("(?m)^"+m[1]).ReplaceAllString(m[2], "")
			var o map[string]any
			if err := yaml.UnmarshalStrict([]byte(manifest), &o); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, manifest)
			}
			if o["kind"] != "UpstreamCluster" {
				continue
			}
			upstreams++
			var uc v1alpha1.UpstreamCluster
			if err := yaml.UnmarshalStrict([]byte(manifest), &uc); err != nil || uc.APIVersion != v1alpha1.GroupVersion.String() {
				t.Errorf("%s: %v in an UpstreamCluster of %s", page, err, uc.APIVersion)
			}
		}
	}
	if upstreams == 0 {
		t.Error("no page shows an UpstreamCluster")
	}
}

// othersFlags are flags that the pages name and that aren't Gimbal's.
var othersFlags = map[string]bool{"`--node-ip": true, "`--nodeport-addresses": true}

func TestMetricsAndFlagsExist(t *testing.T) {
	all := pages(t)
	names := regexp.MustCompile("gimbal_[a-z_]+|`--[-a-z]+")
	for page, text := range all {
		if strings.HasPrefix(page, "docs/reference/") {
			continue
		}
		for _, name := range names.FindAllString(text, -1) {
			reference := all["docs/reference/cli.md"]
			if othersFlags[name] {
				continue
			}
			want := " " + strings.TrimPrefix(name, "`") + " "
			if strings.HasPrefix(name, "gimbal") {
				reference = all["docs/reference/metrics.md"]
				want = "`" + strings.TrimSuffix(name, "_bucket") + "`"
			}
			if !strings.Contains(reference, want) {
				t.Errorf("%s: the reference doesn't have %s", page, want)
			}
		}
	}
}

func TestTroubleshootingHasEveryReason(t *testing.T) {
	inCode := reasons(t, "../internal/mirror", "../internal/upstream", "../internal/upstream/kubernetes", "../internal/upstream/openstack", "../internal/accept", "../internal/discovery")
	text := pages(t)["docs/troubleshooting.md"]
	for reason, where := range inCode {
		if !strings.Contains(text, "`"+reason+"`") {
			t.Errorf("docs/troubleshooting.md doesn't explain the reason %s of %s", reason, where)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z][A-Za-z]+)` \\|").FindAllStringSubmatch(text, -1) {
		if _, ok := inCode[m[1]]; !ok {
			t.Errorf("docs/troubleshooting.md explains the reason %s, which the code doesn't have", m[1])
		}
	}
	if t.Failed() {
		t.Log("reasons in the code:", slices.Sorted(maps.Keys(inCode)))
	}
}

// reasons returns the reasons that the packages' sources hold, and where.
func reasons(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, dir := range dirs {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no sources (%v)", dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				for _, e := range reasonsOf(n) {
					if s, ok := word(e); ok {
						found[s] = filepath.ToSlash(file)
					}
				}
				return true
			})
		}
	}
	return found
}

// reasonsOf returns the expressions in the places where code has reasons: constants of
// that name, a rejection's first field, an assignment to a Reason, and arguments of
// functions that set conditions or record events.
func reasonsOf(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.ValueSpec:
		if strings.HasPrefix(strings.ToLower(n.Names[0].Name), "reason") {
			return n.Values
		}
	case *ast.CompositeLit:
		if name(n.Type) == "rejection" && len(n.Elts) > 0 {
			return n.Elts[:1]
		}
	case *ast.AssignStmt:
		if slices.ContainsFunc(n.Lhs, func(e ast.Expr) bool { return name(e) == "Reason" }) {
			return n.Rhs
		}
	case *ast.CallExpr:
		at, ok := map[string]int{"set": 4, "synced": 1, "idle": 2, "Eventf": 3}[name(n.Fun)]
		if ok && at < len(n.Args) {
			return n.Args[at : at+1]
		}
	}
	return nil
}

func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// word returns the value of a string literal that is one capitalised word.
func word(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil && regexp.MustCompile(`^[A-Z][A-Za-z]+$`).MatchString(s)
}

// TestAnchors shows that anchors are those of GitHub.
func TestAnchors(t *testing.T) {
	got := anchors("# gRPC, HTTP/2 and TLS to the pods\n")
	if want := []string{"grpc-http2-and-tls-to-the-pods"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestWalksNameWhatThereIs shows that the ways of a Service and of a load balancer name functions
// that are in the files which they link.
func TestWalksNameWhatThereIs(t *testing.T) {
	text := pages(t)["docs/architecture.md"]
	quoted := regexp.MustCompile("`([A-Za-z]+\\.)?([A-Za-z]+)`")
	link := regexp.MustCompile(`\]\(\.\./([^)]+\.go)\)`)
	for _, heading := range []string{"## A Service's way\n", "## A load balancer's way\n"} {
		_, section, found := strings.Cut(text, heading)
		section, _, _ = strings.Cut(section, "\n## ")
		if !found {
			t.Fatalf("docs/architecture.md has no %q", heading)
		}
		var code strings.Builder
		for _, m := range link.FindAllStringSubmatch(section+"](../internal/upstream/upstream.go)", -1) {
			data, err := os.ReadFile("../" + m[1])
			if err != nil {
				t.Fatal(err)
			}
			code.Write(data)
		}
		for _, m := range quoted.FindAllStringSubmatch(section, -1) {
			if !regexp.MustCompile(`\b` + m[2] + `\b`).MatchString(code.String()) {
				t.Errorf("%s names %s, which none of the files that it links has", strings.TrimSpace(heading), m[0])
			}
		}
	}
}
