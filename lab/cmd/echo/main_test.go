package main

import (
	"encoding/json"
	"net/http/httptest"
	"reflect"
	"testing"
)

func TestParsePorts(t *testing.T) {
	tests := map[string]struct {
		list string
		want map[int]string
	}{
		"none":    {"", map[int]string{8080: "http"}},
		"several": {"http=8080, admin=9090", map[int]string{8080: "http", 9090: "admin"}},
		"no name": {"8080", nil},
		"range":   {"http=70000", nil},
		"twice":   {"a=1,b=1", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parsePorts(tt.list)
			if !reflect.DeepEqual(got, tt.want) || (err == nil) != (tt.want != nil) {
				t.Errorf("parsePorts(%q) is %v, %v", tt.list, got, err)
			}
		})
	}
}

func TestAnswer(t *testing.T) {
	t.Setenv("CLUSTER", "us-east")
	r := httptest.NewRequest("GET", "http://web.example.com/a?b=c", nil)
	w := httptest.NewRecorder()
	handler("http").ServeHTTP(w, r)
	var got answer
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Cluster != "us-east" || got.Host != "web.example.com" || got.Path != "/a?b=c" || got.Port != "http" || got.Protocol != "HTTP/1.1" {
		t.Errorf("the answer is %+v", got)
	}
}
