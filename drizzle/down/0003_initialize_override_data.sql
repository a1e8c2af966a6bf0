-- The document's defaults that were filled in can't be told from others; they are harmless and stay.
select 1;
