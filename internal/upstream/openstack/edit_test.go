package openstack

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
)

// edit answers as the cloud does, after a change of the answer's JSON. list is the field that holds the objects.
func edit(c *openstacktest.Cloud, w http.ResponseWriter, r *http.Request, change func(list string, answer map[string]any)) {
	recorded := httptest.NewRecorder()
	c.Answer(recorded, r)
	var answer map[string]any
	if err := json.Unmarshal(recorded.Body.Bytes(), &answer); err != nil || recorded.Code != http.StatusOK {
		w.WriteHeader(recorded.Code)
		_, _ = w.Write(recorded.Body.Bytes())
		return
	}
	change(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], answer)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}
