// The image depth figure: one image on its way through multilevel training. Stands behind shared.js.
