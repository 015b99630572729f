if not room then
  return { 'none' }
end
return finish(head())
