"use strict";
const articles = [...document.querySelectorAll("article")];
const texts = articles.map((article) => article.textContent.toLowerCase());
const words = document.getElementById("words");
const warned = document.getElementById("warned");
const shown = document.getElementById("shown");

function filter() {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  articles.forEach((article, i) => {
    const fits = (!warned.checked || "warned" in article.dataset) && wanted.every((word) => texts[i].includes(word));
    article.hidden = !fits;
    count += fits;
  });
  shown.value = `${count} of ${articles.length} subjects`;
}

words.addEventListener("input", filter);
warned.addEventListener("input", filter);
for (const button of document.querySelectorAll("button[data-code]")) {
  button.addEventListener("click", () => {
    words.value = button.dataset.code;
    filter();
    document.querySelector("nav").scrollIntoView();
  });
}
// A link to the page may bring its filter: index.html#warning.label-side
words.value = decodeURIComponent(location.hash.slice(1));
filter();
