(function () {
  var form = document.querySelector(".filters");
  if (!form) return;
  var episodes = Array.from(document.querySelectorAll(".episode"));
  function filter() {
    var verdict = form.elements.verdict.value, file = form.elements.file.value, shown = 0;
    episodes.forEach(function (episode) {
      var fits = (verdict === "all" || episode.dataset.verdict === verdict) && (!file || episode.dataset.file === file);
      episode.hidden = !fits;
      shown += fits;
    });
    document.getElementById("count").textContent = shown + " of " + episodes.length;
  }
  form.hidden = false;
  form.addEventListener("change", filter);
  filter();
})();
