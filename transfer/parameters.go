package transfer

import (
	"context"
	"slices"

	"davit/manifest"
	"davit/manifest/index"
)

// Where the value of a parameter comes from.
const (
	FromOverlay            = "set here for this environment"
	FromOverlayAll         = "set here for all environments"
	FromEnvironmentDefault = "the release's default for this environment"
	FromDefault            = "the release's default"
)

// ParameterState says what value a parameter has for an environment, and where
// it comes from. A secret is not in it.
type ParameterState struct {
	manifest.Parameter
	Value  string // "" when Hidden
	Hidden bool   // there is a value and it is a secret
	From   string // "" when there is no value
}

// Missing reports whether the release cannot be deployed for want of it.
func (p ParameterState) Missing() bool { return p.From == "" && p.Required }

// ParameterStates lists the parameters of a release with their values for an
// environment, "" being none in particular. The order of precedence is that of
// Deploy.
func (s *Site) ParameterStates(ctx context.Context, r *manifest.Release, environment string) ([]ParameterState, error) {
	overlay, err := s.Index.Values(ctx, r.Project)
	if err != nil {
		return nil, err
	}
	find := func(name, environment string) (index.Value, bool) {
		i := slices.IndexFunc(overlay, func(v index.Value) bool { return v.Name == name && v.Environment == environment })
		if i < 0 {
			return index.Value{}, false
		}
		return overlay[i], true
	}
	var out []ParameterState
	for _, p := range r.Parameters {
		st := ParameterState{Parameter: p}
		v, ok := find(p.Name, environment)
		if ok && environment != "" {
			st.From = FromOverlay
		} else if v, ok = find(p.Name, ""); ok {
			st.From = FromOverlayAll
		}
		switch {
		case ok && (v.Sensitive || p.Sensitive):
			st.Hidden = true
		case ok:
			st.Value = v.Value
		default:
			d, set := p.Environments[environment]
			if set {
				st.From = FromEnvironmentDefault
			} else if p.Default != nil {
				d, st.From = *p.Default, FromDefault
			}
			if st.Hidden = st.From != "" && p.Sensitive; !st.Hidden {
				st.Value = d
			}
		}
		out = append(out, st)
	}
	return out, nil
}

// Declared returns how the newest release of a project that declares a
// parameter declares it, releases in the inbox included; nil when none does.
func (s *Site) Declared(ctx context.Context, project, name string) (*manifest.Parameter, error) {
	return s.declared(ctx, project, name)
}
